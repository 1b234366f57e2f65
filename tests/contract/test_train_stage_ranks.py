"""What workers say to one another, over gloo between two real processes."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

PROGRAM = """
import sys, torch, torch.distributed
from datetime import timedelta
from components.train_stage import ranks
from model.errors import ConfigError

rank = int(sys.argv[1])
store = "file://" + sys.argv[2]
torch.distributed.init_process_group("gloo", store, timedelta(seconds=60), rank=rank, world_size=2)

def fails_on_1():
    if rank == 1:
        raise ConfigError("the disk is full")
    return "fine"

def waits_inside():
    if rank == 1:
        raise ConfigError("before the barrier")
    ranks.barrier()

assert ranks.total(torch.tensor([1.0, rank], dtype=torch.float64)).tolist() == [2.0, 1.0]
assert ranks.gather(f"rank {rank}") == ["rank 0", "rank 1"]
assert ranks.together(lambda: rank) == rank
for action, line in ((fails_on_1, "the disk is full"), (waits_inside, "before the barrier")):
    try:
        ranks.together(action)
    except ranks.EverywhereError as error:
        assert str(error) == line, error
    else:
        raise AssertionError(action)
ranks.barrier()
torch.distributed.destroy_process_group()
"""


def test_an_error_of_one_rank_is_raised_on_all(tmp_path: Path) -> None:
    program = tmp_path / "ranks.py"
    program.write_text(textwrap.dedent(PROGRAM))
    workers = [
        subprocess.Popen(
            [sys.executable, str(program), str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [worker.communicate(timeout=200)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
