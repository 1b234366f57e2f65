"""The Kubeflow face of the key-phrase step."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def key_phrases(
    dataset_uri: str,
    out_prefix: str,
    policy: str,
    dataset: dsl.Output[dsl.Dataset],
    model: str = "radgraph-xl",
    checkpoint: str = "",
    refine_endpoint: str = "",
    refine_model: str = "",
) -> str:
    """Compose key phrases from the entities and relations of every report, and return the new data set's address.

    Args:
        dataset_uri: The data set that preprocess wrote.
        out_prefix: Bucket and prefix below which data sets are kept.
        policy: Which findings become phrases: "positive", "positive+uncertain" or "all".
        dataset: The data set with phrases, for the lineage.
        model: Type of the RadGraph model: "radgraph", "radgraph-xl" or "modern-radgraph-xl".
        checkpoint: Its weights, such as s3://s2d/base-models/DIGEST; empty for the stand-in, which reads phantoms only.
        refine_endpoint: OpenAI-compatible address of a language model that words the phrases; empty for the rules.
        refine_model: Name of that model at the endpoint. Its key comes from the secret S2D_LLM_API_KEY.
    """
    from components.key_phrases.options import run_with

    dataset.uri = run_with(
        dataset_uri,
        out_prefix,
        policy,
        model=model,
        checkpoint=checkpoint,
        refine_endpoint=refine_endpoint,
        refine_model=refine_model,
    )
    return dataset.uri
