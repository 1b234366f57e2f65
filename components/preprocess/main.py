"""Turn a source of radiographs and reports into a data set."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast, get_args

from components.preprocess.mimic_cxr import read_tree
from components.preprocess.sections import Mode
from components.shared.dataset import write_dataset
from components.shared.storage import ObjectStore, split_uri
from model.config import load_preset
from model.errors import ConfigError, DataError
from model.records import ReferencePolicy

log = logging.getLogger(__name__)

SOURCES = ("mimic-cxr",)
SECTIONER: Mode = "mimic_official"


def run(data_root: str, source: str, out_prefix: str, name: str, preset: str, reference_policy: str) -> str:
    """Write the data set below `out_prefix` and return its address.

    data_root: a folder, or an s3:// prefix that holds one.  name: of the data set; "" takes "phantom" for synthetic
    data, else the source.  preset: gives the size of the images.  reference_policy: "" takes the preset's.
    """
    if source not in SOURCES:
        raise ConfigError(f"there is no source {source!r}; use one of {', '.join(SOURCES)}")
    settings = load_preset(preset)
    policy = _policy(reference_policy or settings.assumed.reference_policy)
    store = ObjectStore.from_env()
    store.check(split_uri(out_prefix)[0])
    with _local(data_root, store) as root:
        tree = read_tree(root, image_size=settings.image_size, policy=policy, sectioner=SECTIONER)
    config = {"sectioner": SECTIONER, "reference_policy": policy, "references": tree.references, "fit": "pad"}
    uri = write_dataset(
        store,
        out_prefix,
        name or ("phantom" if tree.synthetic else source),
        tree.studies,
        source=source,
        config=config,
        excluded=tree.excluded,
        image_size=settings.image_size,
    )
    log.info("preprocess studies=%d excluded=%s uri=%s", len(tree.studies), tree.excluded, uri)
    return uri


def _policy(name: str) -> ReferencePolicy:
    if name not in get_args(ReferencePolicy):
        raise ConfigError(f"there is no reference policy {name!r}; use one of {', '.join(get_args(ReferencePolicy))}")
    return cast(ReferencePolicy, name)


@contextmanager
def _local(data_root: str, store: ObjectStore) -> Iterator[Path]:
    """The data as a folder; what lies in the object store is downloaded for as long as it is needed."""
    if data_root.startswith("s3://"):
        with TemporaryDirectory(prefix="s2d-data-") as folder:
            yield store.get_tree(data_root, Path(folder))
        return
    root = Path(data_root)
    if not root.is_dir():
        raise DataError(f"{data_root} is not a folder; give the folder that holds files/ and the tables")
    yield root
