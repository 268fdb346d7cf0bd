"""Chat templates of four families in their public shape, each with a small tokenizer."""

from dataclasses import dataclass
from pathlib import Path

from small_tokenizers import byte_level
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

# Thinking of earlier turns is left out; that of the answer to the last question is written, and an
# answer that is asked for begins inside it.
QWEN = """{%- set ns = namespace(asked=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.asked = loop.index0 %}{%- endif %}
{%- endfor %}
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools' }}
    {%- for tool in tools %}{{- '\\n' + tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
    {%- set content = m.content | trim %}
    {%- if m.role == 'assistant' %}
        {%- set thinking = '' %}
        {%- if m.reasoning_content is string %}
            {%- set thinking = m.reasoning_content | trim %}
        {%- elif '</think>' in content %}
            {%- set thinking = content.split('</think>')[0].split('<think>')[-1] | trim %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.asked %}
            {{- '<think>\\n' + thinking + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- else %}
        {{- '<think>\\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA = """{{- bos_token }}
{%- for m in messages %}
    {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim }}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""
SMOLLM = """{%- for m in messages %}
    {%- if loop.first and m.role != 'system' %}
        {{- '<|im_start|>system\\nYou are a helpful AI assistant<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
GEMMA = """{{- bos_token }}
{%- if messages[0].role == 'system' %}
    {{- raise_exception('System role not supported') }}
{%- endif %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate') }}
    {%- endif %}
    {%- set role = 'model' if m.role == 'assistant' else m.role %}
    {{- '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""


@dataclass(frozen=True)
class Family:
    """A template, and the special tokens it writes.

    Attributes:
        end: what ends a turn.
        opening: what the header of an answer ends with.
    """

    template: str
    special: tuple[str, ...]
    end: str
    opening: str
    bos: str | None = None

    def tokenizer(self) -> PreTrainedTokenizerFast:
        made = byte_level(over_words=False)
        made.add_special_tokens([AddedToken(token, special=True) for token in self.special])
        made.add_tokens([AddedToken(token, special=False) for token in ("<think>", "</think>")])
        return PreTrainedTokenizerFast(
            tokenizer_object=made,
            bos_token=self.bos,
            eos_token=self.end,
            chat_template=self.template,
            clean_up_tokenization_spaces=False,
        )

    def save(self, folder: Path) -> Path:
        self.tokenizer().save_pretrained(folder)
        return folder


CHATML = ("<|im_start|>", "<|im_end|>")
LLAMA_SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
FAMILIES = {
    "Qwen3.5": Family(QWEN, CHATML, "<|im_end|>", "<|im_start|>assistant\n<think>\n"),
    "Llama 3": Family(
        LLAMA, LLAMA_SPECIAL, "<|eot_id|>", "assistant<|end_header_id|>\n\n", "<|begin_of_text|>"
    ),
    "SmolLM2": Family(SMOLLM, CHATML, "<|im_end|>", "<|im_start|>assistant\n", "<|im_start|>"),
    "Gemma": Family(
        GEMMA,
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        "<start_of_turn>model\n",
        "<bos>",
    ),
}
