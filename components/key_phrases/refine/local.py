"""A transformers model in a folder: chat template, greedy, in batches of like length. Nothing is downloaded."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.key_phrases.refine.questions import Question
from model.errors import ConfigError, PlatformError
from model.weight_files import folder_digest


class LocalModel:
    """Loads at once, so that a wrong folder is said before anything else is done."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        self.batch_size = batch_size
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        try:
            digest = folder_digest(folder)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"{folder} is not a transformers model that can be loaded ({reason})") from error
        if not self._tokenizer.chat_template:
            raise ConfigError(f"the tokenizer in {folder} has no chat template; use a model tuned for instructions")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.to(self.device).eval()
        template = hashlib.sha256(str(self._tokenizer.chat_template).encode()).hexdigest()
        self.identity = f"{folder.name}, {digest}, chat template {template[:12]}"

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, str | None]]:
        """See Model. A question that is longer than the model's context is refused."""
        if not questions:  # the tokenizer does not take an empty list
            return
        longest = getattr(self._model.config, "max_position_embeddings", None) or 1 << 30
        prompts = [
            self._tokenizer.apply_chat_template(q.messages, add_generation_prompt=True, tokenize=False)
            for q in questions
        ]
        sizes = [len(ids) for ids in self._tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        fitting = [i for i, q in enumerate(questions) if sizes[i] + q.max_tokens <= longest]
        yield from ((i, None) for i in sorted(set(range(len(questions))) - set(fitting)))
        fitting.sort(key=lambda i: (sizes[i], i))  # the longest last, padding the least
        for at in range(0, len(fitting), self.batch_size):
            batch = fitting[at : at + self.batch_size]
            limits = [questions[i].max_tokens for i in batch]
            yield from zip(batch, self._generate([prompts[i] for i in batch], limits), strict=True)

    @torch.inference_mode()
    def _generate(self, prompts: list[str], limits: list[int]) -> list[str]:
        inputs = self._tokenizer(prompts, add_special_tokens=False, padding=True, return_tensors="pt").to(self.device)
        try:
            output = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                num_beams=1,
                max_new_tokens=max(limits),
                pad_token_id=self._tokenizer.pad_token_id,
            )
        except torch.OutOfMemoryError as error:
            raise PlatformError(f"a batch of {len(prompts)} does not fit into the GPU; use smaller batches") from error
        new = output[:, inputs["input_ids"].shape[1] :]
        # Each to its own limit: an answer must not depend on what else is in the batch.
        cut = [row[:limit] for row, limit in zip(new, limits, strict=True)]
        return [str(self._tokenizer.decode(row, skip_special_tokens=True)) for row in cut]
