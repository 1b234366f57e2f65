"""What a training step refuses before it starts anything, in one line that says what to do."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.shared.dataset import read_manifest, write_dataset
from components.shared.storage import ObjectStore, join_uri
from components.train_stage.checks import check_gpus, check_inputs
from components.train_stage.spec import StageRun, epochs_of, words
from model import checkpoint
from model.checkpoint import CheckpointManifest, frozen_digests
from model.config import load_preset
from model.errors import ConfigError, DataError, ManifestError, S2DError
from model.radiograph import encode_png
from model.records import KeyPhrase, Study
from model.s2d_align import S2DAlign

RUN = "s3://s2d/runs/a"


def asked(**changes: Any) -> StageRun:
    wanted = {"stage": "s1", "dataset_uri": "s3://s2d/d", "parent_uri": "", "run_uri": RUN, "preset": "tiny"}
    return StageRun(**{**wanted, "epochs": 1, "workers": 2, "seed": 0, **changes})


def one_line(error: S2DError) -> str:
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"preset": "tiny,conector=mlp"}, "conector"),
        ({"preset": "tiny,assumed.memory_width=100"}, "100 is not a multiple of the 8 attention heads"),
        ({"stage": "s2-s3"}, "begins with 's2'.*begin with s1"),
        ({"stage": "s1-s2", "parent_uri": ""}, "starts from s1, give its address"),
        ({"stage": "s1", "parent_uri": "s3://s2d/p"}, "is the first stage"),
        ({"workers": 0}, "0 workers for batches of 16"),
        ({"workers": 17}, "17 workers for batches of 16 studies.*use 1 to 16"),
        ({"accept": ("weights",)}, "weights.*use dataset, frozen, preset"),
        ({"dataset_uri": "/data"}, "not an address in the object store"),
    ],
)
def test_what_cannot_work_is_refused_at_once(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(**changes)
    assert re.search(says, one_line(caught.value))


def test_epochs_are_a_sum() -> None:
    assert [epochs_of(text) for text in ("4", "5+3", " 1 + 2 +3")] == [4, 8, 6]
    for text in ("", "0", "0+0", "-1", "4.5", "5+", "four", "5-3"):
        with pytest.raises(ConfigError, match="sum such as 5"):
            epochs_of(text)


def test_the_same_work_has_the_same_name() -> None:
    assert words(" preset,dataset, ") == ("dataset", "preset")
    assert asked().digest == asked(workers=1, accept=("preset",)).digest  # neither changes what is learned
    others = ({"epochs": 2}, {"seed": 1}, {"preset": "tiny,connector=mlp"}, {"dataset_uri": "s3://s2d/e"})
    assert len({asked().digest, *(asked(**other).digest for other in others)}) == 5


def test_a_specification_travels_through_the_store(store: ObjectStore) -> None:
    run = asked(accept=("dataset",), run_uri="s3://s2d/runs/spec")
    assert StageRun.fetch(store, run.publish(store)) == run


def studies(count: int = 20, **changes: Any) -> list[Study]:
    image = encode_png(np.zeros((224, 224), np.uint8))
    plain = {"view": "PA", "taken_at": None, "image": image, "findings": "Clear.", "reference_report": "Clear."}
    plain["key_phrases"] = (KeyPhrase(text="no edema", polarity="absent"),)
    return [
        Study(study_id=f"s{i}", patient_id=f"p{i}", **{"split": "validate" if i < 4 else "train", **plain, **changes})
        for i in range(count)
    ]


def written(store: ObjectStore, name: str, made: list[Study]) -> str:
    return write_dataset(store, "s3://s2d", name, made, source="test", config={}, image_size=224)


@pytest.mark.parametrize(
    "changes, stage, error, says",
    [
        ({"key_phrases": ()}, "s1-s3", DataError, "no training study with key phrases.*run key_phrases"),
        ({"reference_report": None}, "s1-s2", DataError, "no training study with reference reports.*reference policy"),
        ({"split": "train"}, "s1", DataError, "no studies to validate"),
        ({"split": "validate"}, "s1", DataError, "no studies to train"),
    ],
)
def test_data_that_cannot_teach_a_stage_are_refused(
    store: ObjectStore, changes: dict[str, Any], stage: str, error: type[S2DError], says: str
) -> None:
    dataset = written(store, "poor", studies(**changes))
    with pytest.raises(error) as caught:
        check_inputs(asked(stage=stage, dataset_uri=dataset, parent_uri="s3://s2d/p" if stage != "s1" else ""), store)
    assert re.search(says, one_line(caught.value))


def test_texts_that_an_experiment_hides_need_not_be_there(store: ObjectStore) -> None:
    dataset, preset = written(store, "hidden", studies(reference_report=None)), "tiny,experiment.references=missing"
    with pytest.raises(S2DError, match="nothing below s3://s2d/none"):  # the next thing that is looked at
        check_inputs(asked(stage="s1-s2", dataset_uri=dataset, parent_uri="s3://s2d/none", preset=preset), store)


def test_more_workers_than_shards_or_gpus_are_refused(store: ObjectStore) -> None:
    dataset = written(store, "shards", studies())
    assert len(read_manifest(store, dataset).shards) == 2
    with pytest.raises(ConfigError) as caught:
        check_inputs(asked(workers=3, dataset_uri=dataset), store)
    assert "3 workers for the 2 shards" in one_line(caught.value) and "at most 2 workers" in str(caught.value)
    with pytest.raises(ConfigError, match="2 workers for 1 GPUs; each worker needs its own"):
        check_gpus(asked(), 1)
    check_gpus(asked(), 2)
    check_gpus(asked(), 0)  # CPUs


def test_a_data_set_of_another_image_size_is_refused(store: ObjectStore) -> None:
    dataset = write_dataset(store, "s3://s2d", "size", studies(), source="test", config={}, image_size=518)
    with pytest.raises(DataError, match=r"518 pixels.*reads 224"):
        check_inputs(asked(dataset_uri=dataset), store)


@pytest.fixture(scope="module")
def parents(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """A data set, and checkpoints below it by what is odd about them."""
    dataset, preset = written(store, "parents", studies()), load_preset("tiny")
    model = S2DAlign.build(preset, seed=0)
    about: dict[str, Any] = {"stage": "s1", "complete": True, "epochs": 1, "seed": 0, "preset": preset}
    about |= {"frozen": frozen_digests(preset), "dataset_digest": dataset.rsplit("/", 1)[-1]}
    odd: dict[str, dict[str, Any]] = {
        "good": {},
        "unfinished": {"complete": False},
        "of other data": {"dataset_digest": "f" * 64},
        "of another preset": {"preset": load_preset("tiny,assumed.missing=zero,assumed.lora_rank=4")},
        "of other models": {"frozen": {**about["frozen"], "decoder": "other"}},
    }
    addresses = {}
    for name, changes in odd.items():
        folder = tmp_path_factory.mktemp("parent")
        checkpoint.save(folder, model, CheckpointManifest(**{**about, **changes}))
        addresses[name] = join_uri("s3://s2d/parents", name.replace(" ", "-"))
        store.put_tree(addresses[name], folder)
    return dataset, addresses


@pytest.mark.parametrize(
    "name, stage, says, accept",
    [
        ("unfinished", "s1-s2", "not complete", ""),
        ("good", "s1-s3-s2", "checkpoint of s1; s1-s3-s2 goes on from s1-s3", ""),
        ("of other data", "s1-s2", "data set", "dataset"),
        ("of another preset", "s1-s2", "lora_rank is 4 there and 8 here", "preset"),
        ("of other models", "s1-s2", "decoder is 'other'", "frozen"),
    ],
)
def test_a_parent_that_does_not_fit_is_refused_unless_told(
    store: ObjectStore, parents: tuple[str, dict[str, str]], name: str, stage: str, says: str, accept: str
) -> None:
    dataset, addresses = parents
    wanted = {"stage": stage, "dataset_uri": dataset, "parent_uri": addresses[name]}
    with pytest.raises(ManifestError) as caught:
        check_inputs(asked(**wanted), store)
    assert says in one_line(caught.value) and addresses[name] in str(caught.value)  # the address, not a scratch folder
    if accept:
        check_inputs(asked(**wanted, accept=words(accept)), store)


def test_a_parent_that_fits_is_taken(store: ObjectStore, parents: tuple[str, dict[str, str]]) -> None:
    dataset, addresses = parents
    check_inputs(asked(stage="s1-s2", dataset_uri=dataset, parent_uri=addresses["good"]), store)


def test_a_finished_stage_is_known_by_its_settings(store: ObjectStore, tmp_path: Path) -> None:
    run = asked(run_uri="s3://s2d/runs/finished")
    assert not run.finished(store)
    preset = load_preset("tiny")
    about = CheckpointManifest(
        stage="s1", complete=True, epochs=1, seed=0, preset=preset, frozen={}, dataset=run.dataset_uri
    )
    (tmp_path / checkpoint.MANIFEST).write_text(about.model_dump_json())
    store.put_tree(run.checkpoint_uri, tmp_path)
    assert run.finished(store)
    assert asked(run_uri=run.run_uri, preset="tiny,running.token_budget=512").finished(store)  # the same is learned
    with pytest.raises(ManifestError, match="epochs is 1 there and 2 here; choose another run name"):
        asked(run_uri=run.run_uri, epochs=2).finished(store)
