"""The causal language model: prompt layout, teacher forcing, LoRA.

Layout of every sequence: BOS, the prompt up to `{image}`, the M context slots, the rest of the prompt, the report, EOS.
Training and serving build it with the same function. Labels cover the report and EOS alone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone knows)
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from model import lora
from model.config import Assumed, Preset
from model.encoders import freeze
from model.packing import PACKED, Layout
from model.pretrained import load_pretrained, load_tokenizer

IGNORED = -100  # label of a position that does not count in the loss


class Decoder(nn.Module):
    """A frozen causal language model that reads context slots in front of its prompt; LoRA is added from stage 2 on.

    `recompute`: keep no activations inside the blocks for the backward pass, but compute them again.
    """

    def __init__(
        self, lm: nn.Module, tokenizer: PreTrainedTokenizerBase, assumed: Assumed, *, recompute: bool = False
    ) -> None:
        super().__init__()
        self.lm = freeze(lm)
        self.tokenizer = tokenizer
        self.assumed = assumed
        before, after = assumed.prompt.split("{image}")
        self.prompt_before = [tokenizer.bos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
        self.prompt_after = list(tokenizer(after, add_special_tokens=False)["input_ids"])
        if recompute:
            self.lm.activation_checkpointing_enable()  # type: ignore[operator]

    @classmethod
    def load(cls, preset: Preset) -> "Decoder":
        lm = load_pretrained(AutoModelForCausalLM, preset.decoder, dtype=getattr(torch, preset.dtype))
        tokenizer = load_tokenizer(AutoTokenizer, preset.decoder)
        return cls(lm, tokenizer, preset.assumed, recompute=preset.running.recompute_activations)

    @property
    def width(self) -> int:
        return int(self.lm.config.hidden_size)  # type: ignore[union-attr,arg-type]

    @property
    def blocks(self) -> nn.Module:
        """The transformer without its head."""
        return self.lm.base_model  # type: ignore[return-value]

    @property
    def head(self) -> Tensor:
        """(V, H)."""
        return self.lm.get_output_embeddings().weight  # type: ignore[operator,no-any-return]

    @property
    def linear_parameters(self) -> int:
        """Weights that every token is multiplied with, LoRA left out: what FLOPs are counted from."""
        linears = (m for m in self.blocks.modules() if isinstance(m, nn.Linear | lora.LoraLinear))
        return sum(m.weight.numel() for m in linears) + self.head.numel()

    @property
    def has_lora(self) -> bool:
        return lora.has_lora(self.blocks)

    def add_lora(self) -> None:
        """Add LoRA on all linear layers of the blocks. B starts at zero, so nothing changes before the first step."""
        if not self.has_lora:
            a = self.assumed
            lora.add_lora(self.blocks, a.lora_rank, a.lora_alpha, a.lora_dropout)

    def merge_lora(self) -> None:
        """Fold LoRA into the base weights, for inference."""
        lora.merge_lora(self.blocks)

    def embed(self, ids: Tensor) -> Tensor:
        out: Tensor = self.lm.get_input_embeddings()(ids)  # type: ignore[operator]
        return out

    def token_scale(self) -> float:
        """Root mean square of the word embeddings: the size at which context slots should enter."""
        weight: Tensor = self.lm.get_input_embeddings().weight  # type: ignore[operator]
        return float(weight.float().pow(2).mean().sqrt())

    def prompt(self, slots: Tensor) -> Tensor:
        """Embed the prompt around (B, M, H) context slots -> (B, P, H)."""
        device, batch = slots.device, len(slots)
        before = self.embed(torch.tensor(self.prompt_before, device=device)).expand(batch, -1, -1)
        after = self.embed(torch.tensor(self.prompt_after, device=device)).expand(batch, -1, -1)
        return torch.cat([before, slots.to(before.dtype), after], dim=1)

    def report_ids(self, report: str) -> list[int]:
        """Tokenise one report, cut at the preset's limit, and end it with EOS."""
        ids = self.tokenizer(report, add_special_tokens=False)["input_ids"][: self.assumed.max_report_tokens]
        return [*ids, self.tokenizer.eos_token_id]

    def report_logits(self, slots: Tensor, labels: Tensor, **options: bool) -> tuple[Tensor, object]:
        """Teacher-force (B, M, H) slots and (B, T) labels -> (B, T, V) logits that predict `labels`, and the output.

        Right padding needs no attention mask: a causal model's report positions never see what follows them.
        """
        prompt = self.prompt(slots)
        report = self.embed(labels.clamp(min=0))
        sequence = torch.cat([prompt, report[:, :-1]], dim=1)
        # The T last positions predict the T labels; the vocabulary is not computed for the prompt's others.
        output = self.lm(inputs_embeds=sequence, logits_to_keep=labels.shape[1], use_cache=False, **options)
        return output.logits, output

    def loss(self, slots: Tensor | Sequence[Tensor], reports: Sequence[str], *, share_prompt: bool = True) -> Tensor:
        """Summed token cross-entropy of the reports given the context (the paper's only loss), in float32.

        slots: (B, M, H), or one (M_b, H) per report where their number differs. All sequences stand in one row without
        padding, behind a prompt that stands there once (`share_prompt`); the head sees the predicting positions alone.
        """
        targets = [self.report_ids(report) for report in reports]
        layout, row, predicting = self._row(slots, targets, share_prompt)
        # Set here, every time: whoever looks at attention weights changes it. Without a layout it is plain attention.
        self.lm.config._attn_implementation = PACKED  # type: ignore[union-attr]
        hidden = self.blocks(
            inputs_embeds=row,
            position_ids=layout.positions,
            attention_mask=layout.no_mask,
            use_cache=False,
            layout=layout,
        ).last_hidden_state[0]
        wanted = torch.tensor([token for ids in targets for token in ids], device=row.device)
        return summed_cross_entropy(hidden.index_select(0, predicting), self.head, wanted)

    def _row(
        self, slots: Tensor | Sequence[Tensor], targets: Sequence[list[int]], share_prompt: bool
    ) -> tuple[Layout, Tensor, Tensor]:
        """Write all sequences into one row -> its layout, its embeddings (1, T, H), the positions that predict."""
        device = slots[0].device
        texts = [self.prompt_before, self.prompt_after, *(ids[:-1] for ids in targets)]
        flat = torch.tensor([token for text in texts for token in text], device=device)
        before, after, *reports = self.embed(flat).split([len(text) for text in texts])
        head = () if share_prompt else (before,)
        pieces = [[*head, own.to(before.dtype), after, report] for own, report in zip(slots, reports, strict=True)]
        lengths = tuple(sum(map(len, each)) for each in pieces)
        layout = Layout(len(before) if share_prompt else 0, lengths, device)
        row = torch.cat([*([before] if share_prompt else []), *(piece for each in pieces for piece in each)])
        ends = zip(layout.starts, lengths, targets, strict=True)
        predicting = torch.cat([torch.arange(start + n - len(ids), start + n) for start, n, ids in ends])
        return layout, row[None], predicting.to(device)


def summed_cross_entropy(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """(N, H) states, (V, H) head, (N,) targets -> float32 scalar."""
    if hidden.dtype == torch.float32:
        return F.linear_cross_entropy(hidden, head, targets, reduction="sum")
    # linear_cross_entropy would add up in the states' own type: three digits for thousands of tokens.
    return F.cross_entropy(F.linear(hidden, head).float(), targets, reduction="sum")
