"""The evaluation of any system, from two files to numbers, table and page."""

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from components.evaluate import extras, radgraph_f1
from components.evaluate.command import evaluate
from components.evaluate.heavy import Pair
from components.evaluate.scores import HEADLINE
from components.evaluate.statistics import holm
from components.shared.radgraph import checkpoints
from model.records import OBSERVATIONS

NORMAL = "The lungs are clear. No pleural effusion or pneumothorax. The heart size is normal."
EFFUSION = "There is a small left pleural effusion. The heart size is normal. No pneumothorax."
HEART = "The heart is moderately enlarged. No pleural effusion or pneumothorax."
TRUE = [("s1", "p1", NORMAL), ("s2", "p1", EFFUSION), ("s3", "p2", HEART), ("s4", "p3", EFFUSION)]


def write(path: Path, rows: list[tuple[str, str, str]], **more: Any) -> Path:
    keyed = [{"id": study, "patient": patient, "text": text, **more} for study, patient, text in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in keyed))
    return path


def changed(**texts: str) -> list[tuple[str, str, str]]:
    return [(study, patient, texts.get(study, text)) for study, patient, text in TRUE]


class Case:
    """A folder with the references; `run` scores files of reports against them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.references = write(folder / "true.jsonl", TRUE)

    def file(self, name: str, **texts: str) -> Path:
        return write(self.folder / f"{name}.jsonl", changed(**texts))

    def invoke(self, *arguments: Any) -> Result:
        return CliRunner().invoke(evaluate, ["--references", str(self.references), *map(str, arguments)])

    def run(self, *arguments: Any) -> dict[str, Any]:
        out = self.folder / "out.json"
        result = self.invoke(*arguments, "--json", out)
        assert result.exit_code == 0, result.stderr
        found: dict[str, Any] = json.loads(out.read_text())
        return found | {"printed": result.stdout}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_true_reports_score_one(case: Case) -> None:
    metrics = case.run("--predictions", case.file("ours"))["metrics"]
    for key in (HEADLINE, "rule_micro_f1_5_u0", "rule_example_f1_14_u1", "bleu1", "bleu4", "rouge_l"):
        assert metrics[key]["value"] == pytest.approx(1, abs=1e-8), key


def test_the_numbers_are_those_counted_by_hand(case: Case) -> None:
    # s2 misses the effusion and so becomes normal, s3 hears of one that is not there.
    out = case.run("--predictions", case.file("ours", s2=NORMAL, s3=f"{HEART[:-16]} and small effusion. {EFFUSION}"))
    # positive in truth: s1 No Finding, s2 effusion, s3 heart, s4 effusion; in predictions: s1 and s2 No Finding, s3
    # heart and effusion, s4 effusion: 3 of 5 are right, 3 of 4 are found
    assert out["metrics"]["rule_micro_p_14_u1"]["value"] == pytest.approx(3 / 5)
    assert out["metrics"]["rule_micro_r_14_u1"]["value"] == pytest.approx(3 / 4)
    assert out["metrics"][HEADLINE]["value"] == pytest.approx(6 / 9)
    assert out["per_label"]["Pleural Effusion"]["reference"]["positive"] == 2
    assert out["per_label"]["Pleural Effusion"]["u1"]["r"]["value"] == pytest.approx(1 / 2)


def test_the_protocol_says_what_was_scored(case: Case) -> None:
    ours = case.file("ours", s2=HEART)
    protocol = case.run("--predictions", ours, "--seed", 3)["protocol"]
    assert protocol["profile"] == "rg4" and protocol["family"] == "rule" and protocol["labeler"].startswith("rules@")
    assert (protocol["n_reports"], protocol["n_patients"], protocol["share_all_normal"]) == (4, 3, 0.25)
    assert protocol["mean_reference_words"] == pytest.approx(np.mean([len(t.split()) for *_, t in TRUE]), abs=0.01)
    assert protocol["references"]["sha256"] == hashlib.sha256(case.references.read_bytes()).hexdigest()
    assert protocol["predictions"][0]["sha256"] == hashlib.sha256(ours.read_bytes()).hexdigest()
    assert protocol["bootstrap"]["unit"] == "patient" and protocol["bootstrap"]["seed"] == 3
    assert protocol["git_commit"] and protocol["libraries"]["numpy"]


def test_every_cell_of_the_clinical_table_is_printed(case: Case) -> None:
    out = case.run("--predictions", case.file("ours", s2=HEART))
    for average in ("micro", "macro", "example"):
        for size in ("14", "5"):
            start = f"| rule {average:<7} | {size} "
            row = next(line for line in out["printed"].splitlines() if line.startswith(start))
            cells = [part.strip().split(" ")[0] for part in row.split("|")[3:9]]
            keys = [f"rule_{average}_{p}_{size}_{u}" for u in ("u0", "u1") for p in ("p", "r", "f1")]
            assert cells == [f"{out['metrics'][key]['value']:.3f}" for key in keys]
    assert "NOT CheXbert" in out["printed"] and "rules@" in out["printed"]
    assert "| Pleural Effusion " in out["printed"] and "4 reports of 3 patients" in out["printed"]


def test_an_empty_prediction_is_neither_dropped_nor_normal(case: Case) -> None:
    out = case.run("--predictions", case.file("ours", s1=""))
    assert out["protocol"]["n_reports"] == 4 and out["protocol"]["empty_predictions"] == 1
    assert out["per_label"]["No Finding"]["hypothesis"]["positive"] == 0
    assert out["metrics"]["rule_micro_r_14_u1"]["value"] == pytest.approx(3 / 4)
    assert out["guards"]["empty_share"] == 0.25
    assert "WARNING: 1 predictions are empty" in out["printed"]


def test_one_study_is_scored_without_another_patient_to_compare_with(tmp_path: Path) -> None:
    case = Case(tmp_path)
    write(case.references, TRUE[:1])
    out = case.run("--predictions", write(tmp_path / "one.jsonl", TRUE[:1]), "--html", tmp_path / "one.html")
    assert out["metrics"][HEADLINE] == {"value": 1, "low": 1, "high": 1}
    assert "other_patient" not in out["baselines"] and [c["kind"] for c in out["cases"]] == ["worst"]


def test_seeds_have_their_range_beside_the_interval(case: Case) -> None:
    files = [case.file("a"), case.file("b", s2=NORMAL), case.file("c", s3=NORMAL, s4=NORMAL)]
    alone = [case.run("--predictions", file)["metrics"][HEADLINE]["value"] for file in files]
    out = case.run(*(part for file in files for part in ("--predictions", file)))
    assert out["metrics"][HEADLINE]["value"] == pytest.approx(np.mean(alone), abs=1e-7)
    assert out["seeds"][HEADLINE]["min"] == min(alone) and out["seeds"][HEADLINE]["max"] == max(alone)
    assert "## Training seeds" in out["printed"]


def test_the_same_reports_do_not_differ_from_themselves(case: Case) -> None:
    ours = case.file("ours", s2=NORMAL)
    other = write(case.folder / "other.jsonl", changed(s2=NORMAL)[::-1])
    out = case.run("--predictions", ours, "--compare", other)
    for row in out["comparison"]["differences"].values():
        assert (row["difference"], row["low"], row["high"], row["p"], row["p_holm"]) == (0, 0, 0, 1, 1)


def test_a_comparison_is_signed_and_printed(case: Case) -> None:
    good, bad = case.file("good"), case.file("bad", s2=NORMAL, s3=NORMAL)
    forth = case.run("--predictions", good, "--compare", bad)
    back = case.run("--predictions", bad, "--compare", good)["comparison"]["differences"][HEADLINE]
    there = forth["comparison"]["differences"][HEADLINE]
    assert there["difference"] > 0 and there["difference"] == pytest.approx(-back["difference"])
    assert there["p"] == back["p"]
    assert "bad.jsonl" in forth["printed"] and "p (Holm)" in forth["printed"]


def test_a_system_that_does_not_look_beats_nobody(case: Case) -> None:
    out = case.run("--predictions", case.file("ours", **{study: EFFUSION for study, *_ in TRUE}))
    moved = out["baselines"]["other_patient"]
    assert moved["difference"]["value"] == 0 and not moved["beaten"]
    assert "NOT BEATEN" in out["printed"]


def test_a_control_is_beaten_only_when_the_interval_says_so(tmp_path: Path) -> None:
    """One of twelve patients is better than the template: more, but the interval of the difference has 0 in it."""
    case = Case(tmp_path)
    write(case.references, [(f"s{i}", f"p{i}", EFFUSION if i < 1 else NORMAL) for i in range(12)])
    ours = write(tmp_path / "ours.jsonl", [(f"s{i}", f"p{i}", EFFUSION if i < 1 else NORMAL) for i in range(12)])
    all_normal = case.run("--predictions", ours)["baselines"]["all_normal"]
    assert all_normal["difference"]["value"] > 0 == all_normal["difference"]["low"]
    assert not all_normal["beaten"]


def test_the_reports_of_other_patients_are_scored_with_their_own_labels(tmp_path: Path) -> None:
    """Of two patients each gets the other's report: right on both before, right on none after."""
    case = Case(tmp_path)
    rows = [("s1", "p1", "Left pleural effusion is seen here."), ("s2", "p2", "Moderate cardiomegaly is seen here.")]
    write(case.references, rows)
    moved = case.run("--predictions", write(tmp_path / "ours.jsonl", rows))["baselines"]["other_patient"]["metrics"]
    assert moved[HEADLINE]["value"] == 0 and moved["rouge_l"]["value"] < 1


def test_train_reports_give_copies_and_the_most_frequent_report(case: Case) -> None:
    ours = case.file("ours")
    assert not any(name.startswith("train_") for name in case.run("--predictions", ours)["guards"])
    train = write(case.folder / "train.jsonl", [("t1", "q1", HEART), ("t2", "q2", HEART), ("t3", "q3", NORMAL)])
    out = case.run("--predictions", ours, "--train", train)
    assert out["guards"]["train_report_copy_share"] == 0.5  # s1 and s3
    assert out["baselines"]["most_frequent_train"]["metrics"]["rule_micro_r_14_u1"]["value"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labeler", "chexbert"], "--labeler chexbert --chexbert FILE"),
        (["--chexbert", "x.pth"], "--labeler chexbert --chexbert FILE"),
        (["--labeler", "csv"], "1 in all, 0 given"),
        (["--reference-labels", "x.csv"], "add --labeler csv"),
        (["--images", "png"], "add --html FILE"),
        (["--json", "nowhere/out.json"], "there is no folder nowhere"),
    ],
)
def test_options_that_do_not_fit_are_one_line(case: Case, arguments: list[str], message: str) -> None:
    result = case.invoke("--predictions", case.file("ours"), *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_seeds_must_differ_and_be_as_many_on_both_sides(case: Case) -> None:
    a, b, c = case.file("a"), case.file("b"), case.file("c", s2=HEART)
    same = case.invoke("--predictions", a, "--predictions", b)
    assert same.exit_code == 2 and "hold the same reports" in same.stderr
    uneven = case.invoke("--predictions", a, "--predictions", c, "--compare", b)
    assert uneven.exit_code == 2 and "2 files of one system and 1 of the other" in uneven.stderr


def test_the_page_shows_radiographs_by_id_and_says_synthetic(case: Case) -> None:
    write(case.references, TRUE, synthetic=True)
    (case.folder / "png").mkdir()
    Image.fromarray(np.arange(700, 1900, dtype=np.uint16).reshape(40, 30)).save(case.folder / "png" / "s2.png")
    page = case.folder / "out.html"
    ours = case.file("ours", s2=NORMAL)
    out = case.run("--predictions", ours, "--html", page, "--images", case.folder / "png")
    assert page.read_text().count("<img ") == 1 and "SYNTHETIC" in page.read_text()
    assert out["printed"].startswith("SYNTHETIC")
    empty = case.invoke("--predictions", ours, "--html", page, "--images", case.folder)
    assert empty.exit_code == 2 and "name them by id, such as s1.png" in empty.stderr


def as_png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = (len(data).to_bytes(4) + kind + data + crc32(kind + data).to_bytes(4) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"report", "s2.png is not"),
        (
            as_png((b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)), (b"\xd3\x97\xd2{", b"")),
            "s2.png is a broken PNG",
        ),
        (as_png((b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)), (b"IDAT", b"")), "megapixels"),
    ],
)
def test_a_picture_that_is_no_radiograph_is_refused_in_one_line(case: Case, content: bytes, message: str) -> None:
    (case.folder / "png").mkdir()
    (case.folder / "png" / "s2.png").write_bytes(content)
    page = ["--html", case.folder / "out.html", "--images", case.folder / "png"]
    result = case.invoke("--predictions", case.file("ours", s2=NORMAL), *page)
    assert result.exit_code == 2 and result.stdout == "", result.exception
    assert message in result.stderr and "\n" not in result.stderr.strip().rpartition("error:")[2]


def test_labels_given_as_tables_have_their_own_keys_and_no_templates(case: Case) -> None:
    header = ",".join(["study_id", *OBSERVATIONS])
    empty = "," * (len(OBSERVATIONS) - 1)
    edema = OBSERVATIONS.index("Edema")
    rows = {
        name: ("," * edema + value + empty[edema:]) for name, value in {"yes": "1.0", "maybe": "-1.0", "no": ""}.items()
    }
    tables = {"true": ("yes", "yes", "maybe", "no"), "ours": ("yes", "no", "yes", "no")}
    for name, cells in tables.items():
        body = [f"s{i},{rows[cell]}" for i, cell in enumerate(cells, 1)]
        (case.folder / f"{name}.csv").write_text("\n".join([header, *body]) + "\n")
    out = case.run(
        "--predictions", case.file("ours", s2=NORMAL), "--labeler", "csv",
        "--reference-labels", case.folder / "true.csv", "--prediction-labels", case.folder / "ours.csv",
    )  # fmt: skip
    assert out["metrics"]["csv_micro_r_14_u1"]["value"] == pytest.approx(2 / 3)
    assert out["metrics"]["csv_micro_p_14_u0"]["value"] == pytest.approx(1 / 2)
    assert not any(key.startswith("rule_") for key in out["metrics"])
    assert set(out["baselines"]) == {"other_patient"}  # no table has labels for a template
    assert "csv micro" in out["printed"] and "rule micro" not in out["printed"]


def test_unknown_words_of_a_profile_come_from_the_training_reports(case: Case) -> None:
    ours = case.file("ours", s2=EFFUSION.replace("small", "tiny"))
    without = case.run("--predictions", ours, "--profile", "r2gen_iu")
    rows = [(f"t{i}", f"q{i}", text) for i, text in enumerate([NORMAL, HEART, EFFUSION.replace("small", "")] * 3)]
    train = write(case.folder / "train.jsonl", rows)
    known = case.run("--predictions", ours, "--profile", "r2gen_iu", "--train", train)
    assert without["metrics"]["bleu1"]["value"] < 1
    assert known["metrics"]["bleu1"]["value"] == pytest.approx(1, abs=1e-8)  # "tiny" and "small" are both unknown
    assert without["protocol"]["profile_about"] != known["protocol"]["profile_about"]


def test_the_page_about_evaluation_names_the_options_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    there = {name for option in evaluate.params for name in option.opts}
    named = set(re.findall(r"--[a-z][a-z-]+", text))
    assert named == there


def test_graphs_join_the_comparison_under_one_correction(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def overlap(references: list[str], hypotheses: list[str], checkpoint: Path | None, ids: list[str]) -> np.ndarray:
        same = [[float(r == h)] * 3 for r, h in zip(references, hypotheses, strict=True)]
        return np.array(same)

    monkeypatch.setattr(radgraph_f1, "radgraph_f1", overlap)
    monkeypatch.setattr(radgraph_f1, "key", lambda checkpoint: "graphf1[words@1]")
    monkeypatch.setattr(radgraph_f1, "name", lambda checkpoint: "equal texts")
    out = case.run(
        "--predictions", case.file("a"), "--predictions", case.file("b", s2=NORMAL),
        "--compare", case.file("c", s1=HEART, s3=NORMAL), "--compare", case.file("d", s1=HEART),
        "--radgraph", "shipped",
    )  # fmt: skip
    assert out["radgraph"]["metrics"]["graphf1[words@1].RG_ER"]["value"] == pytest.approx((4 / 4 + 3 / 4) / 2)
    table = out["comparison"]["differences"]
    assert table["graphf1[words@1].RG_ER"]["difference"] == pytest.approx(7 / 8 - 5 / 8)
    assert {key: row["p_holm"] for key, row in table.items()} == holm({key: row["p"] for key, row in table.items()})
    assert "Graphs by equal texts" in out["printed"] and "| graphf1[words@1].RG_bar_ER " in out["printed"]


def test_a_metric_whose_weights_are_missing_is_a_line_and_no_number(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(names: tuple[str, ...], pairs: list[Pair]) -> dict[str, Any]:
        lengths = {pair.id: {"green[x]": len(pair.hyp) / len(pair.ref)} for pair in pairs}
        return {"green": {"package": "x@1", "scores": lengths}, "bertscore": {"missing": "bertscore needs weights"}}

    monkeypatch.setattr(extras, "heavy_metrics", answer)
    page = case.folder / "out.html"
    out = case.run("--predictions", case.file("a"), "--heavy", "green", "--heavy", "bertscore", "--html", page)
    assert out["heavy"]["green"]["metrics"]["green[x]"] == {"value": 1, "low": 1, "high": 1}
    assert out["heavy"]["bertscore"] == {"missing": "bertscore needs weights"}
    assert "Not computed: bertscore needs weights." in out["printed"]
    assert "Not computed: bertscore needs weights." in page.read_text() and "green[x]" in page.read_text()


def test_a_python_for_large_models_that_is_not_there_is_refused_at_once(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S2D_HEAVY_PYTHON", "no-such-python")
    result = case.invoke("--predictions", case.file("a"), "--heavy", "green")
    assert result.exit_code == 2 and "no-such-python" in result.stderr and result.stderr.count("\n") == 1


def test_empty_predictions_of_every_file_are_said(case: Case) -> None:
    ours = ["--predictions", case.file("a"), "--predictions", case.file("b", s1="", s2="")]
    out = case.run(*ours, "--compare", case.file("c", s3=""), "--compare", case.file("d", s1=HEART))
    assert (out["protocol"]["empty_predictions"], out["protocol"]["empty_predictions_compared"]) == (2, 1)
    assert "WARNING: 2 predictions are empty" in out["printed"] and "WARNING: so are 1" in out["printed"]


def test_a_seed_below_zero_is_a_usage_error(case: Case) -> None:
    result = case.invoke("--predictions", case.file("ours"), "--seed", "-1")
    assert result.exit_code == 2 and "--seed" in result.stderr


@pytest.mark.parametrize("source", ["./nowhere", "s3://s2d/base-models/short"])
def test_a_radgraph_checkpoint_that_cannot_be_had_is_one_line(
    case: Case, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    result = case.invoke("--predictions", case.file("ours"), "--radgraph", source)
    assert result.exit_code == 2
    assert source in result.stderr and result.stderr.strip().count("\n") == 0


def test_radgraph_is_read_by_what_the_address_names(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def locate(source: str, model_type: str) -> Path:
        asked.append(source)
        return checkpoints.SHIPPED_CHECKPOINT

    monkeypatch.setattr(checkpoints, "locate", locate)
    address = "s3://s2d/base-models/" + "0" * 64
    out = case.run("--predictions", case.file("ours"), "--radgraph", address)
    assert asked == [address]
    assert {key.partition("[")[0] for key in out["radgraph"]["metrics"]} == {"graphf1"}
    # these references are not marked as synthetic, and the stand-in cannot read them
    assert "the stand-in reads phantom reports only" in out["printed"]
