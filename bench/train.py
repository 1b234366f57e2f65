"""`s2d bench train`: training steps of the three stages, ours beside a plain loop with transformers and PEFT."""

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from bench.measure import Gate, Result, Row, conditions, interleave, write
from bench.train_models import build, make_samples
from bench.train_page import page, table
from bench.train_variants import BASELINE, OURS, REFERENCE, Variant, Workbench, cosine, timed_first_call
from model.curriculum import PAG, Stage
from model.progress import calibrate

TARGETS = {"cpu-tiny": 1.5, "h200-7b": 2.5}
COSINE = 0.999
CALIBRATIONS = 5
PAPER_PAIRS, PAPER_EPOCHS = 270_000, (8, 5, 3)


def bench_train(
    preset: str = "cpu-tiny", *, repeats: int = 7, json_file: Path | None = None, page_file: Path | None = None
) -> str:
    """Run the bench, write what is asked for, and return the table. Raises ConfigError without the preset's device."""
    result = run(preset, repeats)
    return write(result, table(result), page, json_file, page_file)


def run(preset: str, repeats: int, *, stages: tuple[Stage, ...] = PAG, compiled: bool = True) -> Result:
    """Time everything, stage after stage."""
    load = os.getloadavg()[0]
    shapes, model = build(preset)
    dtype = next(model.decoder.blocks.parameters()).dtype
    rates = [calibrate(shapes.device, dtype) for _ in range(CALIBRATIONS)]
    workbench = Workbench(shapes, model, make_samples(model, shapes))
    rows: list[Row] = []
    remarks = [_calibration(rates)]
    for stage in tqdm(stages, f"bench train {preset}", unit="stage"):
        found, notes = _stage(workbench, stage, repeats, float(np.median(rates)), compiled=compiled)
        rows += _with_target(found, TARGETS[preset])
        remarks += notes
    if preset == "h200-7b":
        remarks.append(_paper_hours(rows))
    about = conditions(
        load, preset=preset, repeats=repeats, threads=torch.get_num_threads(), samples=shapes.samples,
        step=shapes.step, plain_batch=shapes.plain_batch, budget=shapes.budget, rank=model.preset.assumed.lora_rank,
        dropout=model.preset.assumed.lora_dropout, dtype=str(dtype).removeprefix("torch."),
        gflops=round(float(np.median(rates)) / 1e9, 1),
    )  # fmt: skip
    if shapes.device.type == "cuda":
        about["machine"] += f", {torch.cuda.get_device_name()}"
    return Result("train", tuple(rows), about, tuple(remarks))


def _calibration(rates: list[float]) -> str:
    spread = (max(rates) - min(rates)) / float(np.median(rates))
    state = "within" if spread <= 0.1 else "NOT within"
    return (
        f"matrix products alone reach {np.median(rates) / 1e9:.1f} GFLOP/s, {state} 10 % over {len(rates)} repeats"
        f" ({spread:.0%}); MFU is a share of that"
    )


def _stage(
    workbench: Workbench, stage: Stage, repeats: int, rate: float, *, compiled: bool
) -> tuple[list[Row], list[str]]:
    """All variants of one stage -> their rows, and remarks."""
    variants, remarks = workbench.variants(stage), []
    if compiled:
        late = workbench.compiled(stage)
        try:
            seconds = timed_first_call(lambda: workbench.round(late))
            variants[late.name] = late
            remarks.append(f"stage {stage.number}: the first round of {late.name} took {seconds:.0f} s, with compiling")
        except RuntimeError as error:  # the compiler's errors are RuntimeErrors
            remarks.append(f"stage {stage.number}: {late.name} does not compile here: {str(error).splitlines()[0]}")
            late.optimizer.zero_grad(set_to_none=True)
    gates = _gates(workbench, variants)
    times = interleave({name: _rounds(workbench, variant) for name, variant in variants.items()}, repeats)
    memory = {
        name: peak_memory(_rounds(workbench, variant), workbench.shapes.device) for name, variant in variants.items()
    }
    rows = []
    for name, variant in variants.items():
        figures = _figures(workbench, variant, float(np.median(times[name])), rate) | {"memory_mb": memory[name] / 1e6}
        rows.append(
            Row(
                f"stage {stage.number}, {name}",
                BASELINE,
                times[BASELINE],
                times[name],
                None,
                gates[name],
                figures=figures,
            )
        )
    return rows, remarks


def _rounds(workbench: Workbench, variant: Variant) -> Callable[[], int]:
    return lambda: workbench.round(variant)


def _gates(workbench: Workbench, variants: dict[str, Variant]) -> dict[str, Gate]:
    """Loss and gradients of all samples against the plain loop without checkpointing."""
    loss, gradient = workbench.gradient(variants[REFERENCE])
    gates = {}
    for name, variant in variants.items():
        other, found = workbench.gradient(variant)
        away, agreement = abs(other - loss) / loss, cosine(gradient, found)
        passed = away <= workbench.shapes.loss_tolerance and agreement > COSINE
        gates[name] = Gate(passed, f"loss within {away:.0e}, gradient cosine 1 - {max(0.0, 1 - agreement):.0e}")
    return gates


def _figures(workbench: Workbench, variant: Variant, ms: float, rate: float) -> dict[str, float]:
    """Rates of one variant. Tokens are the task's, the same for all: what a sample reads, its prompt included."""
    samples, lengths = len(workbench.samples.lengths), workbench.samples.lengths
    decoder = workbench.model.decoder
    task = sum(workbench.front + n for n in lengths)
    computed = min(task, variant.tokens)  # a shared prompt is computed less often
    head = decoder.head.numel()
    flops = 4 * ((decoder.linear_parameters - head) * computed + head * sum(n + 1 for n in lengths))
    seconds = ms / 1000 * samples
    return {
        "samples_s": samples / seconds,
        "tokens_s": task / seconds,
        "mfu": flops / seconds / rate,
        "padding": variant.padding,
    }


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Bytes at the highest point above those before: of the GPU, or of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps of earlier work would hide the peak
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the highest point so far
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return float(line.split()[1]) * 1024


def _with_target(rows: list[Row], target: float) -> Iterator[Row]:
    """The target is asked of what training does, also where another variant should be faster."""
    for row in rows:
        yield replace(row, target=target) if row.name.endswith(f", {OURS}") else row


def _paper_hours(rows: list[Row]) -> str:
    """From measured steps to the paper's run; features of images were given, so the vision encoder comes on top."""
    best = [row for row in rows if row.target is not None and row.ratio is not None]
    if len(best) != len(PAPER_EPOCHS):
        return "projected time of the paper's 16 epochs: none, as a stage has no valid figure"
    hours = sum(
        epochs * PAPER_PAIRS / row.figures["samples_s"] / 3600 for epochs, row in zip(PAPER_EPOCHS, best, strict=True)
    )
    return (
        f"projected from these figures: {hours:.1f} hours on this one device for the paper's 16 epochs of"
        f" {PAPER_PAIRS:,} pairs, the frozen vision encoder (about 5 % more) and validation not counted"
    )
