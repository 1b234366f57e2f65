"""Rule-composed phrases made natural by a language model, each behind a guard that keeps what it says.

    refined = refine({study_id: phrases}, RefineSettings(endpoint="http://host:8000/v1", model="NAME", cache=FILE))

Read in this order: settings.py, finding.py (phrase to tuple), pool.py and prompt.py (what the model is asked), run.py
(the run), endpoint.py and local.py (who is asked), cache.py, and guard.py with reading.py and lexicon.py (what is
accepted).
"""

from components.key_phrases.refine.run import Refined, not_refined, refine
from components.key_phrases.refine.settings import POOL, RefineSettings

__all__ = ["POOL", "RefineSettings", "Refined", "not_refined", "refine"]
