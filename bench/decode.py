"""`s2d bench decode`: reports written by our loop, with drafts and without, beside transformers' `generate`."""

import os
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from bench.counterfactuals import RENDERED, as_seen
from bench.decode_page import page, table
from bench.measure import Gate, Result, Row, conditions, interleave, write
from bench.train_models import SLOTS, build
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render
from model.decode.drafts import Drafts
from model.decode.llama import Llama
from model.decode.loop import DecodeLoop, Wish, draft_length
from model.decoder import Decoder
from model.errors import ConfigError
from model.generation import ReportGenerator

BATCHES = {"cpu-tiny": (1, 8, 32), "h200-7b": (1, 8, 32, 128)}
TOKENS = 120
TARGETS = {"cpu-tiny": 2.0, "h200-7b": 3.0}  # ours against generate, at batch 1
DRAFTED_TARGET, DRAFTS_TARGET = 3.0, 1.8  # at batch 1: with drafts against generate, against ours without
DRAFTED = (1, 2, 4, 8, 16)
STEPS = 10  # of one round where single steps are timed
FILMS, FILMS_SEED = 32, 46
CORPUS, CORPUS_SEED = 1500, 47  # patients of whose reports the drafts are made: none of the films'
AHEAD = 60  # tokens of a report that are written already when the cost of a step is measured

HF, OURS, WITH_DRAFTS = "hf_generate", "ours", "ours, drafts"


@dataclass
class Case:
    """One model with the reports that it is to write, and how: all ways give the same tokens, or the gate fails."""

    decoder: Decoder
    slots: Tensor  # (reports, M, H)
    most: int  # tokens per report
    is_fixed: bool  # every report has `most` tokens, whatever the model would end
    drafts: Drafts | None = None
    ids: dict[str, list[list[int]]] = field(default_factory=dict)  # what each way wrote last

    def ways(self, batch: int) -> dict[str, Callable[[], int]]:
        """All ways to write the reports, `batch` at a time; each returns the tokens it wrote."""
        found = {HF: lambda: self._count(HF, self.generate(batch)), OURS: lambda: self._count(OURS, self.loop(batch))}
        if self.drafts:
            found[WITH_DRAFTS] = lambda: self._count(WITH_DRAFTS, self.loop(batch, self.drafts))
        return found

    def _count(self, way: str, ids: list[list[int]]) -> int:
        self.ids[way] = ids
        return sum(len(row) + (not self.is_fixed) for row in ids)

    @torch.no_grad()
    def generate(self, batch: int) -> list[list[int]]:
        """The library's own loop, as its manual shows it."""
        lm, tokenizer = self.decoder.lm, self.decoder.tokenizer
        ids: list[list[int]] = []
        end = None if self.is_fixed else tokenizer.eos_token_id
        lm.generation_config.eos_token_id = end  # type: ignore[union-attr]
        for slots in self.slots.split(batch):
            prompt = self.decoder.prompt(slots)
            mask = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
            rows = lm.generate(  # type: ignore[operator]
                inputs_embeds=prompt, attention_mask=mask, max_new_tokens=self.most, do_sample=False,
                pad_token_id=tokenizer.pad_token_id, eos_token_id=end,
                repetition_penalty=self.decoder.assumed.decoding.repetition_penalty,
            ).tolist()  # fmt: skip
            ids += rows if end is None else [row[: row.index(end)] if end in row else row for row in rows]
        return ids

    def loop(self, batch: int, drafts: Drafts | None = None, gained: Counter[int] | None = None) -> list[list[int]]:
        """Our loop with `batch` rows; reports join as rows become free. `gained` counts tokens per verification."""
        loop = DecodeLoop(self.decoder, rows=batch, drafts=drafts)
        if self.is_fixed:
            loop.ends = set()
        written = [loop.add(slots, Wish(self.most)) for slots in self.slots]
        while loop.busy:
            loop.step()
            if gained is not None:
                gained.update(loop.gained)
        return [writing.ids for writing in written]

    def gate(self, way: str) -> Gate:
        pairs = list(zip(self.ids[HF], self.ids[way], strict=True))
        same = sum(one == other for one, other in pairs)
        return Gate(same == len(pairs), f"{same} of {len(pairs)} reports have the tokens of generate")


def bench_decode(
    preset: str = "cpu-tiny", checkpoint: Path | None = None, *, repeats: int = 7, json_file: Path | None = None,
    page_file: Path | None = None,
) -> str:  # fmt: skip
    """Run the bench, write what is asked for, and return the table. Raises ConfigError without the preset's device."""
    result = run(preset, checkpoint, repeats)
    return write(result, table(result), page, json_file, page_file)


def run(preset: str, checkpoint: Path | None, repeats: int) -> Result:
    """Time everything. Without a trained checkpoint nothing is said of drafts but what they cost."""
    load = os.getloadavg()[0]
    if checkpoint and preset != "cpu-tiny":
        raise ConfigError(f"preset {preset} has random weights; give --checkpoint with cpu-tiny")
    shapes, model = build(preset)
    decoder = model.eval().decoder
    rows, remarks = [], []
    for batch in tqdm(BATCHES[preset], f"bench decode {preset}", unit="batch"):
        slots = torch.randn(batch, SLOTS, decoder.width, generator=torch.Generator().manual_seed(batch))
        case = Case(decoder, slots.to(shapes.device) * decoder.token_scale(), TOKENS, is_fixed=True)
        rows += _rows(case, batch, repeats, "", target=TARGETS[preset] if batch == 1 else None)
    remarks += [_costs(decoder, batch, repeats) for batch in BATCHES[preset]]
    if checkpoint:
        found, notes = _drafted(trained(checkpoint), repeats)
        rows += found
        remarks += notes
    about = conditions(
        load, preset=preset, repeats=repeats, threads=torch.get_num_threads(), tokens=TOKENS, films=FILMS,
        corpus=CORPUS, has_checkpoint=checkpoint is not None,
    )  # fmt: skip
    if shapes.device.type == "cuda":
        about["machine"] += f", {torch.cuda.get_device_name()}"
    return Result("decode", tuple(rows), about, tuple(remarks))


def trained(checkpoint: Path) -> Case:
    """A trained model, films of phantom patients that it has not seen, and drafts from other patients' reports."""
    generator = ReportGenerator.load(checkpoint)
    decoder, drafts = generator.model.decoder, generator.drafts
    if not generator.has_loop:
        raise ConfigError(f"{checkpoint} decodes with beams or is no Llama; only greedy Llamas are written by the loop")
    firsts = [states[0] for states in sample_patients(FILMS, FILMS_SEED, longitudinal=False)]
    images = [as_seen(render(state, RENDERED).image, generator.image_size) for state in firsts]
    slots = torch.stack([reading.slots for reading in generator.begin(np.stack(images))])
    if drafts is None:
        states = [state for patient in sample_patients(CORPUS, CORPUS_SEED) for state in patient]
        drafts = Drafts.fit((s.patient_id, decoder.report_ids(write_report(s).findings)) for s in states)
    return Case(decoder, slots, decoder.assumed.decoding.max_new_tokens, is_fixed=False, drafts=drafts)


def _rows(case: Case, batch: int, repeats: int, kind: str, *, target: float | None) -> list[Row]:
    """All ways at one batch size."""
    times = interleave(case.ways(batch), repeats)
    products = _products_ms(case.decoder, batch)
    rows = []
    for way in times:
        each = statistics.median(times[way])
        figures = {"tokens_s": 1000 / each, "limit": products / batch / each}
        name, wanted = f"{kind}B = {batch}, {way}", target if way != HF else None
        rows.append(Row(name, HF, times[HF], times[way], wanted, case.gate(way), figures=figures))
    return rows


def _drafted(case: Case, repeats: int) -> tuple[list[Row], list[str]]:
    """The trained model: ours and ours with drafts beside generate, and drafts beside none."""
    rows, remarks = [], []
    for batch in tqdm(BATCHES["cpu-tiny"], "bench decode, trained", unit="batch"):
        found = _rows(case, batch, repeats, "trained, ", target=None)
        plain, drafted = found[1:]
        if batch == 1:
            drafted = replace(drafted, target=DRAFTED_TARGET)
        target = DRAFTS_TARGET if batch == 1 else None
        beside = replace(drafted, baseline=OURS, baseline_ms=plain.candidate_ms, target=target)
        rows += [found[0], plain, drafted, replace(beside, name=f"{drafted.name} / {OURS}")]
        gained: Counter[int] = Counter()
        case.loop(batch, case.drafts, gained)
        remarks.append(_gains(batch, gained))
    lengths = [len(ids) for ids in case.ids[HF]]
    return rows, [
        f"the trained model's {len(lengths)} reports have {min(lengths)} to {max(lengths)} tokens, mean"
        f" {statistics.mean(lengths):.0f}; {len({tuple(ids) for ids in case.ids[HF]})} of them differ",
        *remarks,
    ]


def _gains(batch: int, gained: Counter[int]) -> str:
    total = sum(gained.values())
    tau = sum(n * count for n, count in gained.items()) / total
    shares = ", ".join(f"{n}: {gained[n] / total:.0%}" for n in sorted(gained))
    most = draft_length(batch, torch.device("cpu"))
    return f"B = {batch}, at most {most} drafts: tau = {tau:.2f} tokens per report and step; histogram {shares}"


@torch.inference_mode()
def _costs(decoder: Decoder, batch: int, repeats: int) -> str:
    """What a step costs that verifies k drafts of every report, against one that verifies none."""
    llama = Llama(decoder.lm, batch)  # type: ignore[arg-type]
    start = SLOTS + len(decoder.prompt_before) + len(decoder.prompt_after) + AHEAD
    llama.reserve(start + 1 + max(DRAFTED))

    def step(k: int) -> Callable[[], int]:
        ids, starts = list(range(4, 4 + batch * (k + 1))), [start] * batch

        def call() -> int:
            for _ in range(STEPS):
                llama.logits(llama.forward(llama.embed(ids), 0, starts)).argmax(dim=-1).tolist()
            return STEPS

        return call

    times = interleave({str(k): step(k) for k in (0, *DRAFTED)}, repeats)
    plain = statistics.median(times["0"])
    costs = ", ".join(f"c({k}) = {statistics.median(times[str(k)]) / plain:.2f}" for k in DRAFTED)
    return f"B = {batch}: a step of {plain:.2f} ms; times that with k drafts each: {costs}"


@torch.inference_mode()
def _products_ms(decoder: Decoder, batch: int) -> float:
    """Milliseconds of one step's matrix products alone: no loop is faster."""
    llama = Llama(decoder.lm, batch)  # type: ignore[arg-type]
    weights = [w for b in llama.blocks for w in (b.qkv, b.out, b.gate_up, b.down)] + [llama.turned_head]
    inputs = [weight.new_zeros(batch, len(weight)) for weight in weights]

    def products() -> int:
        for _ in range(STEPS):
            for x, weight in zip(inputs, weights, strict=True):
                torch.mm(x, weight)
        inputs[0].sum().item()  # a GPU has finished then
        return STEPS

    return statistics.median(interleave({"": products}, 7)[""])
