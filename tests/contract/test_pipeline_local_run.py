"""How a run on this machine is shown, cached and reported. KFP's own runner, with steps that do nothing."""

from pathlib import Path

import pytest
from kfp import dsl

from model.errors import PlatformError
from pipelines.local_run import run_locally, run_name

pytestmark = pytest.mark.contract


@dsl.component(base_image="localhost/none", install_kfp_package=False)
def first(text: str) -> str:
    return text + "!"


@dsl.component(base_image="localhost/none", install_kfp_package=False)
def second(text: str) -> str:
    from model.errors import DataError

    if text == "bad!":
        raise DataError("bad is no good; use something else")
    print("said", text)
    return text


@dsl.pipeline(name="nothing")
def nothing(text: str = "a") -> str:
    one = first(text=text)
    one.set_caching_options(True)
    two = second(text=one.output)
    two.set_caching_options(False)
    two.set_retry(2, backoff_duration="60s", backoff_factor=2)
    return two.output


def run(folder: Path, **arguments):
    return run_locally(arguments, folder / "root", folder / "cache", pipeline=nothing)


def test_a_second_run_reuses_what_may_be_cached_and_nothing_else(tmp_path, capfd):
    assert set(run(tmp_path, text="a")) == {"first", "second"}
    assert "reused" not in capfd.readouterr().err
    seconds = run(tmp_path, text="a")
    out, err = capfd.readouterr()
    assert seconds["first"] == 0 and seconds["second"] > 0
    assert "first" in err and "reused" in err
    assert out == ""  # what steps print goes into their logs
    assert "said a!" in (tmp_path / "root" / "logs" / "second.log").read_text()


def test_other_arguments_are_other_work(tmp_path):
    run(tmp_path, text="a")
    assert run(tmp_path, text="b")["first"] > 0


def test_a_failed_step_is_named_with_its_own_error_and_log_and_without_waiting(tmp_path):
    with pytest.raises(PlatformError) as caught:
        run(tmp_path, text="bad")
    message = str(caught.value)
    assert message.startswith("step second failed: bad is no good; use something else (log: ")
    assert "\n" not in message
    assert Path(message.rsplit("log: ", 1)[1].rstrip(")")).is_file()


def test_a_misspelt_argument_is_refused(tmp_path):
    with pytest.raises(PlatformError, match="no parameter 'txt'"):
        run(tmp_path, txt="a")


def test_a_run_is_named_by_its_arguments():
    assert run_name({"a": 1, "b": 2}) == run_name({"b": 2, "a": 1})
    assert run_name({"a": 1}) != run_name({"a": 2})
