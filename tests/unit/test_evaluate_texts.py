"""What cannot be scored is refused in one line that names the file, the study and the remedy."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.evaluate.command import evaluate
from components.evaluate.english import count_words, looks_english
from components.evaluate.texts import MAX_WORDS, match, read_predictions, read_references
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from model.errors import DataError

TEXTS = {
    "s1": "The heart is enlarged. There is a small left pleural effusion.",
    "s2": "The lungs are clear. No pleural effusion or pneumothorax.",
    "s3": "Right lower lobe consolidation, which may represent pneumonia.",
}


def line(study: str, text: str, patient: str = "") -> str:
    return json.dumps({"id": study, "patient": patient or f"p-{study}", "text": text})


def lines(**changed: str) -> list[str]:
    return [line(study, text) for study, text in (TEXTS | changed).items()]


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


BAD_PREDICTIONS = [
    ("no file", None, r"cannot be read: No such file"),
    ("empty file", [], r"holds no report"),
    ("only blank lines", ["", "  "], r"holds no report"),
    ("all texts empty", [line("s1", ""), line("s2", " "), line("s3", "")], r"all 3 texts are empty"),
    ("not JSON", [*lines()[:2], "s3, Clear lungs."], r"line 3: Invalid JSON"),
    ("a list", [*lines()[:1], "[1, 2]"], r"line 2: .*want \{\"id\""),
    ("no patient", [*lines(), '{"id": "s4", "text": "Clear lungs."}'], r"line 4: patient: Field required"),
    ("no text", ['{"id": "s1", "patient": "p"}'], r"line 1: text: Field required"),
    ("text is no text", ['{"id": "s1", "patient": "p", "text": null}'], r"line 1: text: "),
    ("empty id", [line("", "Clear lungs.", "p")], r"line 1: id is empty"),
    ("duplicate id", [*lines(), line("s2", "Clear lungs.")], r"1 \(s2\) of the ids stand there more than once"),
    (
        "other ids",
        [line("s1", TEXTS["s1"]), line("x7", "Clear lungs.")],
        r"2 \(s2, s3\) without a prediction, 1 \(x7\)",
    ),
    ("a study too few", lines()[:2], r"1 \(s3\) without a prediction, 0 without a reference"),
    ("other patient", [*lines()[:2], line("s3", TEXTS["s3"], "p-x")], r"s3 is of patient 'p-x', but of 'p-s3'"),
    ("far too long", lines(s2="The lungs are clear. " * 500), r"1 \(s2\) above 1000 words \(2,000 in s2\)"),
    ("one in German", lines(s2="Kein Pneumothorax. Die Herzgröße ist normal."), r"1 of 3 texts .* English \(s2\)"),
    ("one in Chinese", lines(s3="双肺纹理清晰,心影大小正常,未见胸腔积液。"), r"1 of 3 texts .* English \(s3\)"),
    (
        "all in Spanish",
        lines(
            s1="Cardiomegalia. Derrame pleural izquierdo de pequeño tamaño.",
            s2="Pulmones claros, sin derrame pleural ni neumotórax.",
            s3="Consolidación del lóbulo inferior derecho.",
        ),
        r"the texts do not look English",
    ),
    (
        "several arms",
        [json.dumps(json.loads(row) | {"arm": arm}) for arm in ("full", "s1") for row in lines()],
        r"arms full, s1: keep the lines of one",
    ),
]


@pytest.mark.parametrize(
    ("rows", "message"), [case[1:] for case in BAD_PREDICTIONS], ids=[c[0] for c in BAD_PREDICTIONS]
)
def test_bad_predictions_are_one_line_and_status_2(tmp_path: Path, rows: list[str] | None, message: str) -> None:
    references = write(tmp_path / "true.jsonl", lines())
    predictions = tmp_path / "ours.jsonl" if rows is None else write(tmp_path / "ours.jsonl", rows)
    with pytest.raises(DataError, match=message) as error:
        match(read_predictions(predictions), *read_references(references))
    assert "\n" not in str(error.value) and "ours.jsonl" in str(error.value)
    result = CliRunner().invoke(evaluate, ["--predictions", str(predictions), "--references", str(references)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("error: ") == 1 and str(error.value) in result.stderr


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes('{"id": "s1", "patient": "p", "text": "Café"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.jsonl is not UTF-8"):
        read_predictions(tmp_path / "latin.jsonl")


def test_order_marks_blank_lines_numbers_and_further_keys_are_taken(tmp_path: Path) -> None:
    rows = ['\ufeff{"id": 7, "patient": 3, "text": "Clear lungs.", "score": 0.5}', "", line("s2", TEXTS["s2"])]
    texts = read_predictions(write(tmp_path / "ours.jsonl", rows))
    assert texts.ids == ["7", "s2"] and texts.patients == ["3", "p-s2"]
    assert texts.priors is None and not texts.synthetic


def test_reports_of_the_longest_length_are_taken(tmp_path: Path) -> None:
    text = " ".join(["The", "lungs"] * (MAX_WORDS // 2))
    assert len(read_predictions(write(tmp_path / "ours.jsonl", [line("s1", text)]))) == 1


def test_predictions_are_put_in_the_order_of_the_references(tmp_path: Path) -> None:
    references, empty = read_references(write(tmp_path / "true.jsonl", lines()))
    matched = match(read_predictions(write(tmp_path / "ours.jsonl", lines()[::-1])), references, empty)
    assert matched.ids == references.ids and matched.texts == list(TEXTS.values())


def test_empty_references_are_left_out_on_both_sides_and_named(tmp_path: Path) -> None:
    references, empty = read_references(write(tmp_path / "true.jsonl", lines(s2=" ")))
    assert empty == ["s2"] and references.ids == ["s1", "s3"]
    matched = match(read_predictions(write(tmp_path / "ours.jsonl", lines(s1=""))), references, empty)
    assert matched.ids == ["s1", "s3"]
    assert matched.texts[0] == ""  # an empty prediction stays


@pytest.mark.parametrize(
    "text",
    [
        "Kein Nachweis eines Pneumothorax. Herz normal groß. Pleuraerguss rechts basal.",
        "Pas de pneumothorax. Épanchement pleural gauche. Silhouette cardiaque normale.",
        "Non si osserva pneumotorace. Versamento pleurico a destra. Ombra cardiaca nei limiti.",
        "Não há derrame pleural. Área cardíaca normal. Opacidade no lobo inferior direito.",
        "Geen pneumothorax. Het hart is niet vergroot. Kleine hoeveelheid pleuravocht links.",
        "Pneumothorax rechts. Pleuraerguss links, Kardiomegalie, Stauung, Infiltrat.",
        "心影大小正常",
    ],
)
def test_other_languages_are_told_from_english(text: str) -> None:
    assert not looks_english(*count_words(text))


@pytest.mark.parametrize(
    "text",
    [
        "Bibasilar atelectasis.",
        "Cardiomediastinal silhouette normal. Pulmonary vasculature normal. Osseous structures intact.",
        "Dual-lead pacemaker, sternotomy wires, and CABG clips unchanged.",
        "ET tube terminates 4 cm above the carina; NG tube tip is below the diaphragm.",
        "XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX XXXX opacity. XXXX XXXX.",
        "XXXX XXXX normal. No pneumothorax. No infiltrate, no effusion.",
        "Bilateral pneumothoraces, subcutaneous emphysema, pneumomediastinum, pneumopericardium.",
        "No pneumothorax, no consolidation, no effusion, no edema, no nodule",
        "Dextrocardia. Situs inversus. Kartagener syndrome. Bronchiectasis.",
        "pneumothorax pneumothorax opacity opacity effusion lungs lungs lungs",  # a decoder that loops is scored
        "",
    ],
)
def test_english_of_any_style_passes(text: str) -> None:
    assert looks_english(*count_words(text))


def test_phantom_reports_are_english() -> None:
    reports = [write_report(state).findings for studies in sample_patients(60, 21) for state in studies]
    assert all(looks_english(*count_words(report)) for report in reports)
