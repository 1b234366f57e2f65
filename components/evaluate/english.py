"""A cheap check that reports are English: the labeler would read any other language as "nothing abnormal".

It counts plain words that English reports are made of, and those of other languages. Words that English shares with
them ("no", "normal", "pneumothorax") are evidence of neither.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from model.errors import DataError

_ENGLISH_WORDS = """
above after again all along also although and any apart appear appears are areas at been below best between both
but by can cannot change changed changes could demonstrate demonstrated demonstrates due evidence few finding
findings for found free from given great has have identified increased it its large larger left likely limits line
lines low lower may more most new noted not of on one other otherwise patient placed possible present previously
prior probable probably rather remain remains right seen shallow show shows side sided since slight slightly small
stable study suggest suggesting than that the there these this to top two unchanged upper upright view views well
were which with within without worse worsened

acute airspace atelectatic basilar blunting bony bones calcified cardiac cardiomediastinal cardiomegaly chest clear
clips collapse collection compared contours degenerative disease effusion effusions emphysema engorgement enlarged
enlargement fluid focal fractures hazy heart increase infiltrate infiltrates interstitial interval lobe lung lungs
markings mediastinal mild mildly moderate opacities opacity osseous overlying pacemaker patchy pleural pulmonary
scarring severe size sized spine sternotomy streaky structures support thickening thoracic tortuous tube unremarkable
vascular vasculature volumes widened wires
"""
_FOREIGN_WORDS = """
der das und ist nicht kein keine keinen eines eine ein im mit beidseits rechts von des auf ohne
het een van geen niet er zijn naar zonder bij
le la les et du pas une est droite gauche sans dans avec au aux absence
el los las se del sin y un una con por hay derecho derecha izquierdo izquierda de en ni que
il di non si della nei nel dei alla destra sinistra senza
da dos das em sem uma com direito esquerdo direita esquerda nao não há os ao
och det ikke ingen inte av med som til hjerte
"""
ENGLISH = frozenset(_ENGLISH_WORDS.split())
FOREIGN = frozenset(_FOREIGN_WORDS.split())
LEAST_SHARE = 0.1  # of ENGLISH words in one text; English reports have .3 to .7
LEAST_SHARE_OF_ALL = 0.2
LEAST_WORDS = 5  # shorter texts ("Bibasilar atelectasis.") say too little about their language
TERSE_WORDS = 15  # below it a list of findings may do without any plain word; only foreign ones speak against it
_WORD = re.compile(r"[^\W\d_]+")
_LAST_LATIN = "\u024f"


def check_english(path: Path, ids: Sequence[str], texts: Sequence[str]) -> None:
    """Raise DataError when the texts as a whole, or single ones, are not English."""
    counts = [count_words(text) for text in texts]
    english, foreign, words = (sum(column) for column in zip(*counts, strict=True))
    odd = [name for name, count in zip(ids, counts, strict=True) if not looks_english(*count)]
    a_few = 0 < 2 * len(odd) < len(ids)
    if not a_few and words and (english < LEAST_SHARE_OF_ALL * words or foreign > english):
        raise DataError(
            f"{path}: the texts do not look English: {english / words:.0%} of their words are plain English ones,"
            f" {LEAST_SHARE_OF_ALL:.0%} or more are expected; labelers and profiles are for English reports"
        )
    if odd:
        raise DataError(
            f"{path}: {len(odd)} of {len(ids)} texts do not look English ({', '.join(odd[:3])}"
            f"{', ...' if len(odd) > 3 else ''}); translate them, or leave them empty to count as reports that say"
            " nothing"
        )


def looks_english(english: int, foreign: int, words: int) -> bool:
    """By the counts of one text. A text of few words passes."""
    return words < LEAST_WORDS or (foreign <= english and (words < TERSE_WORDS or english >= LEAST_SHARE * words))


def count_words(text: str) -> tuple[int, int, int]:
    """How many of a text's words are plain English, how many plain foreign, and how many there are.

    Scripts other than Latin may not put spaces between words, so every letter of theirs counts as a foreign one.
    """
    words = [word for word in _WORD.findall(text.lower()) if word.strip("x")]  # Open-i has XXXX for what it removed
    other_script = sum(letter > _LAST_LATIN and letter.isalpha() for letter in text)
    foreign = sum(word in FOREIGN for word in words) + other_script
    return sum(word in ENGLISH for word in words), foreign, len(words) + other_script
