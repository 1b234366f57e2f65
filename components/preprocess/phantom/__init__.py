"""A procedural generator of patients, radiographs, reports and exact ground truth. Not a model of clinical reality.

Read in this order: state.py (what is true of a study), patients.py (how patients change), render.py (the picture),
sentences.py and grammar.py (the report), study.py (both together,
with the DICOM object), truth.py (what is known), layouts/ and make.py (the files).
"""
