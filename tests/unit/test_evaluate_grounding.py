"""Maps against masks: the metrics by hand, and a verdict that only a map which looked at the image can win."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from components.evaluate.chance_maps import ChanceMaps
from components.evaluate.grounding import (
    Claim,
    claims_of,
    correlation_within_reports,
    judge,
    matching,
    not_beaten,
    other_patient,
)
from components.evaluate.maps import (
    ALL_METRICS,
    RESOLUTION,
    cnr,
    cnr_absolute,
    contrast,
    map_metrics,
    miou,
    peak,
    pixel_auc,
    read_mask,
    upsample,
)
from model.generation import Draft, DraftSentence
from model.records import Region, Study

GRID = 14


def png(mask: np.ndarray) -> bytes:
    sink = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(sink, "PNG")
    return sink.getvalue()


def region(observation: str, side: str, mask: np.ndarray) -> Region:
    return Region(name=observation, observation=observation, side=side, box=(0, 0, 1, 1), mask_png=png(mask))


def square(row: int, column: int, size: int = 224) -> np.ndarray:
    """A mask of 32 x 32 pixels at a place counted in patches of 16."""
    mask = np.zeros((size, size), dtype=bool)
    mask[row * 16 : row * 16 + 32, column * 16 : column * 16 + 32] = True
    return mask


def draft(text: str, grid: np.ndarray) -> Draft:
    return Draft(text, [DraftSentence(text, 0.9, grid / grid.sum())], np.zeros(2), None)


def study(patient: int, split: str, mask: np.ndarray, side: str = "right") -> Study:
    return Study(
        study_id=f"s{patient}",
        patient_id=f"p{patient}",
        split=split,
        view="PA",
        taken_at=None,
        image=b"",
        findings="Right effusion.",
        regions=(region("Pleural Effusion", side, mask),),
    )


def test_auc_by_counting_pairs() -> None:
    values = np.array([[0.1, 0.4], [0.4, 0.9]])
    mask = np.array([[False, True], [False, True]])
    # pairs inside/outside: .4>.1, .4=.4 (half), .9>.1, .9>.4
    assert pixel_auc(values, mask) == pytest.approx(3.5 / 4)
    assert pixel_auc(np.ones((3, 3)), np.eye(3, dtype=bool)) == 0.5


def test_a_map_that_is_the_mask_and_one_that_is_uniform() -> None:
    mask = np.zeros((RESOLUTION, RESOLUTION), dtype=bool)
    mask[:7, :8] = True
    # the mask itself varies neither inside nor outside: without noise the CNR is not defined and counts 0
    exact = {"pointing": 1, "pointing_tolerant": 1, "auc": 1, "cnr": 0, "cnr_absolute": 0, "miou": 1, "mass_ratio": 56}
    assert map_metrics(mask / mask.sum(), [mask]) == pytest.approx(exact)
    uniform = map_metrics(np.ones(mask.shape), [mask])
    blind = {"pointing": 0, "pointing_tolerant": 0, "auc": 0.5, "cnr": 0, "cnr_absolute": 0, "miou": 0, "mass_ratio": 1}
    assert uniform == pytest.approx(blind)
    assert peak(np.ones((5, 5))) == (2, 2)


def test_contrast_to_noise_is_signed_and_the_printed_form_is_not() -> None:
    assert contrast(0.8, 0.01, 0.2, 0.03) == pytest.approx(3.0)
    assert contrast(0.2, 0.03, 0.8, 0.01) == pytest.approx(-3.0)
    mask = np.zeros((RESOLUTION, RESOLUTION), dtype=bool)
    mask[10:20, 10:20] = True
    pick = np.random.default_rng(0)
    inside, outside = pick.normal(0.8, 0.1, mask.shape), pick.normal(0.2, np.sqrt(0.03), mask.shape)
    right, wrong = np.where(mask, inside, outside), np.where(mask, outside, inside)
    assert cnr(right, mask) == pytest.approx(3.0, abs=0.15)
    assert cnr(wrong, mask) == pytest.approx(-3.0, abs=0.3)
    assert cnr_absolute(wrong, [mask]) == pytest.approx(-cnr(wrong, mask))


def test_a_later_box_does_not_count_what_an_earlier_one_covers() -> None:
    values = np.random.default_rng(0).random((RESOLUTION, RESOLUTION))
    left, right = np.zeros((2, RESOLUTION, RESOLUTION), dtype=bool)
    left[10:30, 10:30], right[20:40, 20:40] = True, True
    rest = ~left
    alone = contrast(
        values[right & rest].mean(),
        values[right & rest].var(),
        values[~right & rest].mean(),
        values[~right & rest].var(),
    )
    assert cnr_absolute(values, [left, right]) == pytest.approx((abs(cnr(values, left)) + abs(alone)) / 2)


def test_overlap_by_counting_cells() -> None:
    values, mask = np.zeros((10, 10)), np.zeros((10, 10), dtype=bool)
    mask[0, :4] = True
    values[0, :2], values[0, 2:8] = 1.0, 0.25  # above .1 and .2: eight cells; above .3, .4 and .5: two
    assert miou(values, mask) == pytest.approx((4 / 8 + 4 / 8 + 2 / 4 + 2 / 4 + 2 / 4) / 5)


def test_the_tolerance_of_the_pointing_game_is_15_pixels_of_224() -> None:
    mask = np.zeros((RESOLUTION, RESOLUTION), dtype=bool)
    mask[20, 20] = True
    for away, hit in ((3, 1.0), (4, 0.0)):  # 15 px of 224 are 3.75 cells of 56
        values = np.zeros(mask.shape)
        values[20, 20 + away] = 1
        found = map_metrics(values, [mask])
        assert (found["pointing"], found["pointing_tolerant"]) == (0.0, hit)


def test_a_bright_patch_comes_back_where_it_was() -> None:
    grid = np.zeros((GRID, GRID))
    grid[3, 10] = 1
    row, column = peak(upsample(grid))
    patch = RESOLUTION / GRID
    assert abs(row + 0.5 - 3.5 * patch) <= patch / 2
    assert abs(column + 0.5 - 10.5 * patch) <= patch / 2
    assert upsample(grid).sum() == pytest.approx(1)


def test_a_finding_smaller_than_a_cell_is_kept() -> None:
    mask = np.zeros((224, 224), dtype=bool)
    mask[100, 50] = True
    assert np.argwhere(read_mask(png(mask))).tolist() == [[25, 12]]


@pytest.mark.parametrize(
    "text, matches",
    [
        ("Small right pleural effusion.", 1),
        ("Small left pleural effusion.", 0),
        ("No right pleural effusion.", 0),
        ("Possible right pleural effusion.", 0),
        ("Pleural effusion.", 0),
        ("Bilateral pleural effusions.", 0),
        ("Right pneumothorax.", 0),
    ],
)
def test_only_true_positive_claims_with_the_right_side_are_judged(text: str, matches: int) -> None:
    assert len(claims_of(study(1, "test", square(9, 2)), draft(text, np.ones((GRID, GRID))))) == matches


def test_a_mask_of_nothing_is_no_place_to_point_at() -> None:
    """It would be a miss in pointing, a coin in AUC, and no number at all in the mass ratio."""
    gone = study(1, "test", np.zeros((224, 224), dtype=bool))
    assert claims_of(gone, draft("Small right pleural effusion.", np.ones((GRID, GRID)))) == []


def test_both_sides_are_matched_by_both_regions() -> None:
    both = [region("Pleural Effusion", "right", square(9, 2)), region("Pleural Effusion", "left", square(9, 10))]
    assert matching(both, "Pleural Effusion", frozenset({"right", "left"})) == both
    faint = [region("Consolidation", "left", square(5, 9))]
    assert matching(faint, "Lung Opacity", frozenset({"left"})) == faint
    heart = [region("Cardiomegaly", "", square(8, 7))]
    assert matching(heart, "Cardiomegaly", frozenset()) == heart


def test_the_prior_is_the_mean_of_the_training_masks() -> None:
    train = [study(1, "train", square(0, 0)), study(2, "train", square(0, 2)), study(3, "train", square(9, 9), "left")]
    maps = ChanceMaps.of(train).maps(("Pleural Effusion", "right"))
    cells = {name: np.count_nonzero(maps[name]) for name in ("class_side_prior", "class_prior", "anatomy")}
    assert cells == {"class_side_prior": 2 * 64, "class_prior": 3 * 64, "anatomy": 3 * 64}
    assert all(values.sum() == pytest.approx(1) for values in maps.values())
    for name in ("class_prior", "anatomy"):
        assert maps[name][:8].sum() == pytest.approx(2 / 3)  # two studies of three, not one side of two
    half = RESOLUTION // 2
    assert peak(maps["centre"]) == (half - 1, half - 1)
    sigma = RESOLUTION / 4
    fall = np.exp(-(((sigma + 0.5) / sigma) ** 2 - (0.5 / sigma) ** 2) / 2)
    assert maps["centre"][half, half + int(sigma)] / maps["centre"][half, half] == pytest.approx(fall)


def test_the_prior_of_both_sides_has_both_equally() -> None:
    train = [study(1, "train", square(0, 0)), study(2, "train", square(0, 0)), study(3, "train", square(9, 9), "left")]
    both = ChanceMaps.of(train).maps(("Pleural Effusion", "left+right"))["class_side_prior"]
    assert both[:8].sum() == pytest.approx(0.5)


def sample(n: int, seed: int, look: Callable[[int, int], tuple[int, int]]) -> tuple[list[Study], list[Draft]]:
    """Test studies with the finding at random places, and drafts whose maps peak where `look` says."""
    pick = np.random.default_rng(seed)
    studies, drafts = [], []
    for i in range(n):
        row, column = (int(v) for v in pick.integers(0, 12, size=2))
        grid = np.full((GRID, GRID), 0.01)
        r, c = look(row, column)
        grid[r : r + 2, c : c + 2] = 1
        studies.append(study(i, "test", square(row, column)))
        drafts.append(draft("Small right pleural effusion.", grid))
    return studies, drafts


@pytest.mark.parametrize(
    "look, status",
    [
        (lambda row, column: (row, column), "validated"),  # where the finding is
        (lambda row, column: (6, 6), "not validated"),  # where such findings are on average
        (lambda row, column: (11 - row, 11 - column), "not validated"),  # anywhere else
    ],
)
def test_maps_are_validated_only_when_they_follow_the_finding(
    look: Callable[[int, int], tuple[int, int]], status: str
) -> None:
    train, _ = sample(40, 1, look)
    test, drafts = sample(30, 2, look)
    verdict = judge(test, drafts, train, seed=0)
    assert verdict["status"] == status
    assert verdict["claims"] == 30
    assert verdict["findings"] == ["Pleural Effusion"]
    assert (verdict["differences"]["class_side_prior"]["auc"]["low"] > 0) == (status == "validated")
    assert verdict["maps"]["uniform"]["auc"]["value"] == 0.5


@pytest.mark.parametrize(
    ("control", "metric", "high", "lost"),
    [
        ("other_patient", "pointing", 0.59, []),
        ("other_patient", "pointing", 0.6, ["pointing against other_patient"]),  # they touch
        ("class_side_prior", "pointing", 0.65, ["pointing against class_side_prior"]),
        ("other_patient", "auc", 0.65, ["auc against other_patient"]),
        ("class_side_prior", "auc", 0.65, ["auc against class_side_prior"]),
        ("anatomy", "auc", 0.99, []),
        ("class_side_prior", "miou", 0.99, []),
    ],
)
def test_a_map_is_better_only_with_intervals_apart_in_pointing_and_auc(
    control: str, metric: str, high: float, lost: list[str]
) -> None:
    """The model has .7 [.6, .8]; every control but one is far below, and that one's mean is below it too."""
    estimates = {
        name: {m: {"value": 0.1, "low": 0.0, "high": 0.2} for m in ALL_METRICS}
        for name in ("other_patient", "class_side_prior", "anatomy")
    }
    estimates["model"] = {m: {"value": 0.7, "low": 0.6, "high": 0.8} for m in ALL_METRICS}
    estimates[control][metric] = {"value": 0.5, "low": 0.4, "high": high}
    assert not_beaten(estimates) == lost


def test_a_frequent_finding_does_not_outvote_a_rare_one() -> None:
    """30 maps hit, 6 of another finding miss: the average over findings is a half, not 30 of 36."""
    test, drafts = sample(36, 3, lambda row, column: (row, column))
    for i in range(30, 36):
        grid = np.zeros((GRID, GRID))
        grid[13, 13] = 1
        mask = square(0, 0)
        test[i] = test[i].model_copy(update={"regions": (region("Lung Lesion", "right", mask),)})
        drafts[i] = draft("There is a nodule in the right lung.", grid)
    verdict = judge(test, drafts, [*test, *test[30:] * 3], seed=0)
    assert verdict["findings"] == ["Lung Lesion", "Pleural Effusion"]
    assert verdict["maps"]["model"]["pointing"]["value"] == pytest.approx(0.5)


def test_a_finding_of_four_claims_is_listed_and_does_not_count() -> None:
    test, drafts = sample(34, 3, lambda row, column: (row, column))
    for i in range(30, 34):
        test[i] = test[i].model_copy(update={"regions": (region("Lung Lesion", "right", square(0, 0)),)})
        drafts[i] = draft("There is a nodule in the right lung.", np.eye(GRID)[::-1])
    verdict = judge(test, drafts, [*test, *test[30:] * 4], seed=0)
    assert verdict["findings"] == ["Pleural Effusion"]
    assert verdict["maps"]["model"]["pointing"]["value"] == 1
    lesion = verdict["per_observation"]["Lung Lesion"]
    assert (lesion["claims"], lesion["model"]["pointing"]) == (4, 0)


def test_the_other_map_is_of_another_patient_and_of_the_same_side_where_there_is_one() -> None:
    kinds = [("a", "right"), ("a", "right"), ("b", "right"), ("b", "left"), ("c", "left")]
    maps = [np.full((2, 2), float(i)) for i in range(len(kinds))]
    claims = [Claim(patient, ("Edema", side), maps[i], ()) for i, (patient, side) in enumerate(kinds)]
    claims.append(Claim("d", ("Fracture", "left"), np.ones((2, 2)), ()))
    seen: list[set[int]] = [set() for _ in kinds]
    for seed in range(30):
        *chosen, alone = other_patient(claims, seed=seed)
        assert alone is None
        for found, which in zip(seen, chosen, strict=True):
            assert which is not None
            found.add(int(which[0, 0]))
    assert seen == [{2}, {2}, {0, 1}, {4}, {3}]
    [elsewhere, _] = other_patient([claims[0], claims[4]], seed=0)
    assert elsewhere is maps[4]  # no other right side: the same finding has to do


def test_a_prior_of_few_masks_is_no_opponent() -> None:
    """Beating the mean of 19 masks proves nothing, so such claims are not judged."""
    test, drafts = sample(30, 2, lambda row, column: (row, column))
    verdict = judge(test, drafts, sample(19, 1, lambda row, column: (row, column))[0], seed=0)
    assert (verdict["claims"], verdict["claims_without_control"]) == (0, 30)
    assert verdict["status"] == "not validated"


def test_without_true_findings_there_is_no_verdict_to_win() -> None:
    test, drafts = sample(1, 0, lambda row, column: (row, column))
    assert judge(test, drafts, test, seed=0)["status"] == "not validated"


def test_maps_that_do_not_depend_on_the_sentence_correlate_fully() -> None:
    grid = np.random.default_rng(0).random((GRID, GRID))
    same = Draft("", [DraftSentence("a", 1.0, grid), DraftSentence("b", 1.0, grid)], np.zeros(2), None)
    assert correlation_within_reports([same]) == 1.0
