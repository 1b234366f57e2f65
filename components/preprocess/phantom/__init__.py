"""A procedural generator of patients, radiographs, reports and exact ground truth. Not a model of clinical reality.

Read in this order: state.py (what is true of a study), patients.py (how patients change), render.py (the picture),
sentences.py and grammar.py (the report), truth.py (what is known), mimic_tree.py and make.py (the files).
"""
