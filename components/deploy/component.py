"""The Kubeflow face of the deployment."""

from kfp import dsl

from components.shared.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(model_uri: str, target: str) -> str:
    """Load a model version where it serves, ask it for one report, and go back to the version before on failure.

    Args:
        model_uri: The model version.
        target: "triton" for the one-machine platform, "kserve" for a cluster.
    """
    from components.deploy.main import run

    return run(model_uri, target)
