"""The Kubeflow face of the key-phrase step."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def key_phrases(dataset_uri: str, out_prefix: str, policy: str, dataset: dsl.Output[dsl.Dataset]) -> str:
    """Compose key phrases from the entities and relations of every report, and return the new data set's address.

    Args:
        dataset_uri: The data set that preprocess wrote.
        out_prefix: Bucket and prefix below which data sets are kept.
        policy: Which findings become phrases: "positive", "positive+uncertain" or "all".
        dataset: The data set with phrases, for the lineage.
    """
    from components.key_phrases.main import run

    dataset.uri = run(dataset_uri, out_prefix, policy)
    return dataset.uri
