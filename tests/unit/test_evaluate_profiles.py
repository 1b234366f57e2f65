"""Text profiles: the published vectors, truncation, unknown words, and that no text is cleaned twice."""

import random

import pytest

from components.evaluate.profiles import PROFILES, clean_pairs, describe, vocabulary
from model.errors import ConfigError

VECTORS = [
    ("Nodule measures 1.5 cm.", "nodule measures 15 cm ."),
    ("AP/lateral views. Heart size is normal.", "aplateral views . heart size is normal ."),
    ("Compared to ___ there is no change.", "compared to  there is no change ."),
    (
        "1. Small left effusion. 2. Atelectasis. 3. No pneumothorax.",
        "small left effusion . atelectasis . no pneumothorax .",
    ),
    ("Compression of T11. Heart normal.", "compression of t1heart normal ."),
    ("Heart size: normal. Lungs: clear.", "heart size normal . lungs clear ."),
    ("", " ."),
]
# A truncating profile joins its words again, as the public code does when it turns ids back into text.
ODD = 'FINDINGS:\n\n___ year old.. "Lungs" [clear]; <3 cm> @apex?  Well-expanded.. . 4. Don\'t\\know; {}'


def cleaned(profile: str, text: str) -> str:
    return clean_pairs(profile, [text], [text])[0][1]


@pytest.mark.parametrize("raw, expected", VECTORS)
def test_r2gen_mimic_vectors(raw: str, expected: str) -> None:
    assert cleaned("r2gen_mimic", raw) == expected


@pytest.mark.parametrize("raw, expected", VECTORS)
def test_rg4_differs_in_the_colon_alone(raw: str, expected: str) -> None:
    colon = {"Heart size: normal. Lungs: clear.": "heart size : normal . lungs : clear ."}
    assert cleaned("rg4", raw) == colon.get(raw, expected)


@pytest.mark.parametrize(
    "profile, expected",
    [
        ("r2gen_mimic", "findings  year old . lungs clear 3 cm apex well-expanded .  . dontknow  ."),
        ("rg4", "findings :  year old . lungs clear <3 cm> @apex well-expanded .  . dontknow  ."),
        ("r2gen_iu", "findings\n\n year old . lungs clear 3 cm apex  well-expanded .  . dontknow  ."),
        ("raw", ODD.replace("\n", " ").replace("  ", " ").replace("  ", " ")),
    ],
)
def test_odd_marks_by_profile(profile: str, expected: str) -> None:
    """By hand from the rules: what survives, what leaves a double space behind, which newline stays."""
    assert cleaned(profile, ODD) == expected


def test_only_the_reference_is_cut_and_the_full_stop_counts() -> None:
    long = " ".join(["lung"] * 200)
    lengths = {p: [len(side.split()) for side in clean_pairs(p, [long], [long])[0]] for p in PROFILES}
    assert lengths == {"r2gen_mimic": [99, 201], "r2gen_iu": [59, 201], "rg4": [201, 201], "raw": [200, 200]}


def test_rare_words_are_unknown_on_both_sides_and_only_with_training_reports() -> None:
    train = ["Lungs clear."] * 10 + ["Heart large."] * 9
    known = vocabulary(train, "r2gen_mimic")
    assert known == {"lungs", "clear", "."}
    assert vocabulary(train[-3:], "r2gen_iu") == {"heart", "large", "."}
    assert clean_pairs("r2gen_mimic", ["Heart clear."], ["Lungs large."], vocabulary=known) == [
        ("<unk> clear .", "lungs <unk> .")
    ]
    assert clean_pairs("r2gen_mimic", ["Heart clear."], ["Lungs large."]) == [("heart clear .", "lungs large .")]
    assert "rare words stay" in describe("r2gen_mimic")
    assert "less than 10 times" in describe("r2gen_mimic", has_vocabulary=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_cleaned_text_is_refused_on_either_side(profile: str) -> None:
    [(once, _)] = clean_pairs(profile, ["Nodule measures 1.5 cm."], [""])
    for references, hypotheses in (([once], ["x"]), (["x"], [once])):
        with pytest.raises(ConfigError, match="is cleaned already; give the raw report") as refusal:
            clean_pairs(profile, references, hypotheses)
        assert "measures" not in str(refusal.value)  # reports stay out of messages


@pytest.mark.parametrize("profile", PROFILES)
def test_a_file_of_cleaned_text_gets_no_other_tokens(profile: str) -> None:
    """Who has only R2Gen's own output on disk loses nothing: a second pass changes white space, not tokens."""
    pick = random.Random(7)
    parts = [
        "Lungs",
        " ",
        ".",
        ". ",
        "1. ",
        " 2. ",
        "..",
        ":",
        "_",
        "__",
        "\n",
        "/",
        "'",
        "T11. ",
        "1.5 cm",
        "-",
        "<",
        "(",
    ]
    for _ in range(3000):
        once = cleaned(profile, "".join(pick.choices(parts, k=pick.randint(0, 15))))
        again = cleaned(profile, str(once))
        assert again.split() == once.split(), once


def test_the_refusals_name_what_can_be_used() -> None:
    with pytest.raises(ConfigError, match="'r2gen' is unknown; use one of r2gen_mimic, r2gen_iu, rg4, raw"):
        clean_pairs("r2gen", [""], [""])
    with pytest.raises(ConfigError, match="rg4 keeps rare words"):
        vocabulary(["a"], "rg4")
    with pytest.raises(ConfigError, match="rg4 keeps rare words"):
        clean_pairs("rg4", [""], [""], vocabulary=frozenset("a"))
