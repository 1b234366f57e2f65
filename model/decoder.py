"""The causal language model: prompt layout, teacher forcing, LoRA.

Layout of every sequence: BOS, the prompt up to `{image}`, the M context slots, the rest of the prompt, the report, EOS.
Training and serving build it with the same function. Labels cover the report and EOS alone.
"""

from collections.abc import Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from model.config import Assumed, Preset
from model.encoders import freeze, load_pretrained, locate

IGNORED = -100  # label of a position that does not count in the loss


class Decoder(nn.Module):
    """A frozen causal language model that reads context slots in front of its prompt; LoRA is added from stage 2 on."""

    def __init__(self, lm: nn.Module, tokenizer: PreTrainedTokenizerBase, assumed: Assumed) -> None:
        super().__init__()
        self.lm = freeze(lm)
        self.tokenizer = tokenizer
        self.assumed = assumed
        before, after = assumed.prompt.split("{image}")
        self.prompt_before = [tokenizer.bos_token_id, *tokenizer(before, add_special_tokens=False)["input_ids"]]
        self.prompt_after = list(tokenizer(after, add_special_tokens=False)["input_ids"])

    @classmethod
    def load(cls, preset: Preset) -> "Decoder":
        lm = load_pretrained(AutoModelForCausalLM, preset.decoder, dtype=getattr(torch, preset.dtype))
        return cls(lm, AutoTokenizer.from_pretrained(locate(preset.decoder)), preset.assumed)

    @property
    def width(self) -> int:
        return int(self.lm.config.hidden_size)  # type: ignore[union-attr,arg-type]

    @property
    def has_lora(self) -> bool:
        return isinstance(self.lm, PeftModel)

    def add_lora(self) -> None:
        """Add LoRA on all linear layers of the blocks. B starts at zero, so nothing changes before the first step."""
        if self.has_lora:
            return
        config = LoraConfig(
            r=self.assumed.lora_rank,
            lora_alpha=self.assumed.lora_alpha,
            lora_dropout=self.assumed.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        self.lm = get_peft_model(self.lm, config)  # type: ignore[arg-type]

    def merge_lora(self) -> None:
        """Fold LoRA into the base weights, for inference."""
        if self.has_lora:
            self.lm = freeze(self.lm.merge_and_unload())  # type: ignore[operator]

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

    def report_ids(self, reports: Sequence[str], device: torch.device) -> Tensor:
        """Tokenise reports with EOS -> (B, T), right-padded with IGNORED."""
        limit = self.assumed.max_report_tokens
        rows = [self.tokenizer(r, add_special_tokens=False)["input_ids"][:limit] for r in reports]
        ids = [torch.tensor([*row, self.tokenizer.eos_token_id]) for row in rows]
        return nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=IGNORED).to(device)

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

    def loss(self, slots: Tensor, reports: Sequence[str]) -> Tensor:
        """Mean token cross-entropy of the reports given the context (the paper's only loss)."""
        labels = self.report_ids(reports, slots.device)
        logits, _ = self.report_logits(slots, labels)
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
