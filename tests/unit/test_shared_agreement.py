"""Data under an agreement does not go where anybody can read it."""

import json

import boto3
import pytest

from components.shared.agreement import PHYSIONET, agreements_in, check_destination, check_export
from components.shared.storage import ObjectStore
from model.errors import ConfigError


class Bucket(ObjectStore):
    """A store whose bucket is open, or is not."""

    public = True

    def is_public(self, bucket: str, prefix: str = "") -> bool:
        assert bucket == "open"
        return self.public


class ClosedBucket(Bucket):
    public = False


OPEN, CLOSED = (kind(endpoint="http://127.0.0.1:1", access_key="a", secret_key="b") for kind in (Bucket, ClosedBucket))


def test_marked_data_is_refused_by_a_public_bucket_in_one_line_that_says_the_word() -> None:
    with pytest.raises(ConfigError, match="anybody can read s3://open/x") as raised:
        check_destination(OPEN, "s3://open/x", PHYSIONET)
    assert f'--acknowledge "{PHYSIONET}"' in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("word", ["yes", PHYSIONET.lower(), "PhysioNet", ""])
def test_another_word_does_not_do(word: str) -> None:
    with pytest.raises(ConfigError):
        check_destination(OPEN, "s3://open/x", PHYSIONET, word)
    with pytest.raises(ConfigError):
        check_export("s3://open/x", [PHYSIONET], word)


def test_what_may_go_goes() -> None:
    check_destination(OPEN, "s3://open/x", PHYSIONET, PHYSIONET)
    check_destination(OPEN, "s3://open/x", "")
    check_destination(CLOSED, "s3://open/x", PHYSIONET)
    check_export("s3://open/x", [PHYSIONET], PHYSIONET)
    check_export("s3://open/x", [], "")


def test_a_real_bucket_is_asked_and_not_only_believed(s3_endpoint: str, store: ObjectStore) -> None:
    """The moto server enforces no policies, so it must look public; the closed case is the contract test's."""
    client = boto3.client(
        "s3", endpoint_url=s3_endpoint, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="given-away")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::given-away/*"}
        ],
    }
    client.put_bucket_policy(Bucket="given-away", Policy=json.dumps(policy))
    with pytest.raises(ConfigError, match="anybody can read"):
        check_destination(store, "s3://given-away/data", PHYSIONET)


def test_agreements_are_found_in_nested_manifests() -> None:
    manifest = {
        "use_agreement": "",
        "checkpoint": {"use_agreement": "B"},
        "parents": [{"dataset": {"use_agreement": "A"}}],
    }
    assert agreements_in(manifest) == ["A", "B"]
    assert agreements_in({"use_agreement": "", "config": {"x": [1, "use_agreement"]}}) == []
    with pytest.raises(ConfigError, match='--acknowledge "A; B"'):
        check_export("s3://b/m", ["A", "B"], "A")
    check_export("s3://b/m", ["A", "B"], "A; B")
