"""What can go wrong, and who must act.

S2DError
  ConfigError          the operator must change a setting
  DataError            the input is wrong; retrying cannot help
    RadiographError    a file is not a frontal chest radiograph that can be read
    ManifestError      a data set, checkpoint or model version is incomplete or not the expected one
  StoreError           the object store did not do what was asked
    StoreUnreachable   nobody answers there; retrying may help
    StoreDenied        the credentials or the bucket are refused
    StoreMissing       there is no such object
  TrainingError        the numbers went wrong: a loss or a gradient that is not finite; retrying gives the same
  PlatformError        a process of the platform (Ray, Triton, the gateway, a cluster) failed

Every message is one line that says what was wrong, with which input, and what to do. Command lines print it and exit
with status 2; the gateway turns it into a problem document.
"""


class S2DError(Exception):
    """Anything this project reports to a person in one line."""


class ConfigError(S2DError):
    """A setting is wrong; change it."""


class DataError(S2DError):
    """The input is wrong; retrying cannot help."""


class RadiographError(DataError):
    """The file cannot be used as a chest radiograph. `reason` is a stable word for machines."""

    def __init__(self, message: str, *, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class ManifestError(DataError):
    """A manifest is missing, or does not match what lies beside it."""


class StoreError(S2DError):
    """The object store did not do what was asked."""


class StoreUnreachable(StoreError):
    """Nobody answers at the endpoint; retrying may help."""


class StoreDenied(StoreError):
    """The store answered and refused: credentials, policy or bucket."""


class StoreMissing(StoreError):
    """There is no object at this address."""


class TrainingError(S2DError):
    """Training cannot go on: a loss or a gradient is not finite. The same run again gives the same."""


class PlatformError(S2DError):
    """A process of the platform failed: Ray, Triton, the gateway or the cluster."""
