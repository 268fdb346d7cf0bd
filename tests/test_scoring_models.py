"""Models as they are loaded and run: two passes are one pass, and faults are named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import (
    ARCHITECTURES,
    PADDED_VOCABULARY,
    TinyPair,
    copy_model,
    edit_weights,
    load_plain,
    tiny_adapter,
    tiny_model,
    tiny_pair,
)
from tiny_logits import SCORING, carriers, close, every_logit, plain
from transformers import AutoModelForCausalLM, Qwen3_5Config, Qwen3_5ForConditionalGeneration

from probing.errors import (
    IdenticalModel,
    ModelFault,
    NonFiniteLogits,
    SelfCheckFailed,
    VocabularyMismatch,
)
from probing.scoring.batching import batches, wanted_rows
from probing.scoring.checkpoints import resolve_model
from probing.scoring.forward import PlainForward, TwoPass
from probing.scoring.heads import stubbed
from probing.scoring.models import ScoredModel, find_sources, load_models, resolve_dtype
from probing.scoring.selfcheck import check_model
from probing.scoring.weights import full_change
from probing.settings import ModelSpec, RunSettings


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TinyPair]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: tiny_pair(root / name, name) for name in ARCHITECTURES}


def specs(baseline: Path, **others: Path | str) -> RunSettings:
    """Settings whose others are full checkpoints, or adapters where a name begins so."""
    return RunSettings(
        out="unused",
        carriers=("unused",),
        baseline=ModelSpec(name="base", path=str(baseline)),
        others=tuple(
            ModelSpec(name=name, adapter=str(path))
            if name.startswith("adapter")
            else ModelSpec(name=name, path=str(path))
            for name, path in others.items()
        ),
        scoring=SCORING,
    )


def loaded(settings: RunSettings, *, dtype: torch.dtype = torch.float32) -> tuple[ScoredModel, ...]:
    return load_models(find_sources(settings), scoring=settings.scoring, dtype=dtype)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_passes_batched_are_the_plain_forward_token_by_token(
    pairs: dict[str, TinyPair], architecture: str
) -> None:
    pair = pairs[architecture]
    wanted = carriers()
    models = loaded(specs(pair.baseline, other=pair.trained))
    for model, folder in zip(models, (pair.baseline, pair.trained), strict=True):
        expected = plain(folder, wanted)
        close(every_logit(TwoPass(model), wanted), expected)
        close(every_logit(PlainForward(model), wanted), expected)


def test_a_row_is_the_one_before_its_token() -> None:
    # token_ids  p0 p1 p2 | y0 y1 y2 y3; y0 comes from the row of p2, y3 from that of y2.
    wanted = wanted_rows(np.arange(7, dtype=np.int32), np.array([0, 3]), response_start=3)
    assert wanted.rows.tolist() == [2, 5]
    assert wanted.length == 6  # y3 itself is never run.


def test_batches_keep_the_budget_and_every_carrier() -> None:
    lengths = [5, 90, 5, 7, 30, 12, 200]
    made = batches(lengths, token_budget=40, chunk_tokens=100)
    assert sorted(i for batch in made for i in batch.members) == list(range(len(lengths)))
    for batch in made:
        longest = max(lengths[i] for i in batch.members)
        assert len(batch.members) == 1 or longest * len(batch.members) <= 40
        assert batch.chunked == (longest > 100)
    assert made[0].members == (0, 2, 3)


def test_half_precision_heads_run_in_float32_and_leave_the_model_alone(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "half", "qwen3", dtype=torch.bfloat16)
    adapter = tiny_adapter(folder, tmp_path / "adapter")
    settings = specs(folder, adapter=adapter)
    assert resolve_dtype(find_sources(settings), dtype="auto") == torch.bfloat16
    for model in loaded(settings, dtype=torch.bfloat16):
        embedding = model.causal_lm.get_input_embeddings().weight
        before = embedding.clone()
        runner = TwoPass(model)
        (wanted,) = carriers((30,))
        rows = runner.rows([wanted], scoring=SCORING)
        logits = rows.block(0, len(wanted.rows))
        assert logits.dtype == torch.float32
        expected = rows.hidden.float() @ model.causal_lm.lm_head.weight.float().T
        assert (logits - expected).abs().max() < 1e-5
        assert model.causal_lm.get_input_embeddings().weight is embedding
        assert embedding.dtype == torch.bfloat16
        assert torch.equal(embedding, before)
        check = check_model(model, [wanted], scoring=SCORING, chunked=True).check
        assert check.two_pass
        assert check.tolerance == SCORING.self_check_tolerance_half


def test_heads_of_adapters_in_half_precision_keep_their_own_output_embedding(
    tmp_path: Path,
) -> None:
    folder = tiny_model(tmp_path / "half", "llama", dtype=torch.bfloat16)
    adapter = tiny_adapter(folder, tmp_path / "adapter", targets=("lm_head",))
    models = loaded(specs(folder, adapter=adapter), dtype=torch.bfloat16)
    (wanted,) = carriers((30,))
    runners = [TwoPass(model) for model in models]
    base, adapted = (every_logit(runner, [wanted]) for runner in runners)
    weights = load_file(adapter / "adapter_model.safetensors")
    (a,) = (weights[key].float() for key in weights if "lora_A" in key)
    (b,) = (weights[key].float() for key in weights if "lora_B" in key)
    hidden = runners[0].rows([wanted], scoring=SCORING).hidden.float()
    assert (adapted - (base + 2 * hidden @ a.T @ b.T)).abs().max() < 1e-4
    assert (adapted - base).abs().max() > 1e-2


def test_dtype_is_the_stored_one_and_the_widest_where_they_differ(
    pairs: dict[str, TinyPair], tmp_path: Path
) -> None:
    half = tiny_model(tmp_path / "half", dtype=torch.bfloat16)
    sources = find_sources(specs(half, other=pairs["llama"].trained))
    assert resolve_dtype(sources, dtype="auto") == torch.float32
    assert resolve_dtype(sources[:1], dtype="auto") == torch.bfloat16
    assert resolve_dtype(sources, dtype="float16") == torch.float16


def test_a_multimodal_qwen_checkpoint_gives_its_text_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 32}
    whole = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=text, vision_config=vision))
    whole.eval().save_pretrained(tmp_path / "whole")
    AutoModelForCausalLM.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "text")
    model, twin = loaded(specs(tmp_path / "whole", other=tmp_path / "text"))
    ids = np.arange(3, 23, dtype=np.int32)
    wanted = wanted_rows(ids, np.arange(10), response_start=5)
    with torch.no_grad():
        expected = whole(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0, 4:14]
    close(every_logit(TwoPass(model), [wanted]), expected)
    close(every_logit(TwoPass(twin), [wanted]), expected)
    with pytest.raises(IdenticalModel, match="must differ"):
        full_change(
            resolve_model("base", str(tmp_path / "whole")),
            resolve_model("ssd", str(tmp_path / "text")),
            dtype=torch.float32,
        )


def test_soft_capped_attention_falls_back_to_one_that_has_it(pairs: dict[str, TinyPair]) -> None:
    assert SCORING.attention == "sdpa"
    model, _ = loaded(specs(pairs["gemma2"].baseline, other=pairs["gemma2"].trained))
    assert model.attention == "eager"
    model, _ = loaded(specs(pairs["llama"].baseline, other=pairs["llama"].trained))
    assert model.attention == "sdpa"


# --- The self-check ---------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_self_check_passes_with_a_small_difference(
    pairs: dict[str, TinyPair], architecture: str
) -> None:
    (model, _) = loaded(specs(pairs[architecture].baseline, other=pairs[architecture].trained))
    check = check_model(model, carriers((40, 25)), scoring=SCORING, chunked=True).check
    assert check.two_pass
    assert check.note == ""
    assert 0 <= check.difference < 1e-4


def test_a_model_that_cannot_be_split_runs_whole(pairs: dict[str, TinyPair]) -> None:
    pair = pairs["llama"]
    (model, _) = loaded(specs(pair.baseline, other=pair.trained))
    model.causal_lm.base_model_prefix = "nothing"
    wanted = carriers()
    checked = check_model(model, wanted[:1], scoring=SCORING, chunked=False)
    assert not checked.check.two_pass
    assert "no part 'nothing'" in checked.check.note
    close(
        torch.cat([checked.runner.rows(wanted, scoring=SCORING).block(0, 99)]),
        plain(pair.baseline, wanted),
    )


def test_a_model_whose_parts_do_more_than_their_sum_runs_whole(pairs: dict[str, TinyPair]) -> None:
    pair = pairs["llama"]
    (model, _) = loaded(specs(pair.baseline, other=pair.trained))
    # What the CausalLM does to its inputs, its parts know nothing of.
    model.causal_lm.register_forward_pre_hook(_shifted, with_kwargs=True)
    checked = check_model(model, carriers()[:1], scoring=SCORING, chunked=False)
    assert not checked.check.two_pass
    assert checked.check.difference > SCORING.self_check_tolerance
    assert "two passes differ from one by" in checked.check.note


def test_the_self_check_looks_at_less_where_memory_is_short(pairs: dict[str, TinyPair]) -> None:
    pair = pairs["llama"]
    (model, _) = loaded(specs(pair.baseline, other=pair.trained))
    tokens = []

    def runs_out(_: object, args: tuple[()], kwargs: dict[str, torch.Tensor]) -> None:
        tokens.append(kwargs["input_ids"].shape[1])
        if tokens[-1] > 100:
            raise MemoryError

    model.causal_lm.model.register_forward_pre_hook(runs_out, with_kwargs=True)
    roomy = replace(SCORING, token_budget=160, chunk_tokens=160)
    checked = check_model(model, carriers((130, 20)), scoring=roomy, chunked=False)
    assert checked.check.two_pass
    assert tokens[:2] == [122, 80]


def _shifted(_: object, args: tuple[()], kwargs: dict[str, torch.Tensor]) -> object:
    if "input_ids" in kwargs:
        kwargs["input_ids"] = kwargs["input_ids"] // 2
    return args, kwargs


def test_a_model_that_does_not_repeat_itself_is_refused(pairs: dict[str, TinyPair]) -> None:
    pair = pairs["llama"]
    (model, _) = loaded(specs(pair.baseline, other=pair.trained))
    model.causal_lm.lm_head.register_forward_hook(
        lambda *seen: seen[-1] + torch.rand(seen[-1].shape)
    )
    with pytest.raises(SelfCheckFailed, match="must repeat its own logits"):
        check_model(model, carriers()[:1], scoring=SCORING, chunked=False)


def test_nan_weights_are_refused_at_the_check(pairs: dict[str, TinyPair], tmp_path: Path) -> None:
    broken = copy_model(pairs["llama"].trained, tmp_path / "nan")
    edit_weights(broken, lambda weights: weights["lm_head.weight"][5].fill_(torch.nan))
    (_, model) = loaded(specs(pairs["llama"].baseline, broken=broken))
    with pytest.raises(NonFiniteLogits, match="'broken' must give finite logits"):
        check_model(model, carriers()[:1], scoring=SCORING, chunked=False)


# --- Faults of files --------------------------------------------------------------------------


def test_missing_folders_and_hub_ids_are_named(
    pairs: dict[str, TinyPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = pairs["llama"].baseline
    with pytest.raises(ModelFault, match=r"'ssd' must be a folder or a hub id.*nothing is at"):
        find_sources(specs(base, ssd="./not/there"))
    with pytest.raises(ModelFault, match=r"hub id 'nobody/nothing' could not be fetched.*hf down"):
        find_sources(specs(base, ssd="nobody/nothing"))


def test_only_safetensors_are_read(pairs: dict[str, TinyPair], tmp_path: Path) -> None:
    base = pairs["llama"].baseline
    pickled = copy_model(base, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelFault, match=r"safetensors.*has pytorch_model\.bin"):
        find_sources(specs(base, ssd=pickled))
    adapter = tiny_adapter(base, tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelFault, match=r"has adapter_model\.bin and no adapter_model\.safet"):
        find_sources(specs(base, adapter=adapter))


def test_an_adapter_given_as_a_path_says_so(pairs: dict[str, TinyPair], tmp_path: Path) -> None:
    adapter = tiny_adapter(pairs["llama"].baseline, tmp_path / "adapter")
    with pytest.raises(ModelFault, match="give it as `adapter`"):
        find_sources(specs(pairs["llama"].baseline, ssd=adapter))


def test_a_baseline_must_be_a_checkpoint(pairs: dict[str, TinyPair], tmp_path: Path) -> None:
    settings = replace(
        specs(pairs["llama"].baseline, ssd=pairs["llama"].trained),
        baseline=ModelSpec(name="base", adapter=str(tmp_path)),
    )
    with pytest.raises(ModelFault, match="must be a full checkpoint"):
        find_sources(settings)


def test_unreadable_and_incomplete_weights_are_refused(
    pairs: dict[str, TinyPair], tmp_path: Path
) -> None:
    base = pairs["llama"].baseline
    cut = copy_model(base, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelFault, match="not a readable safetensors file"):
        resolve_model("cut", str(cut)).stored_dtype()
    lacking = copy_model(base, tmp_path / "lacking")
    edit_weights(lacking, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ModelFault, match=r"missing_keys: model\.layers\.1\.mlp\.up_proj\.weight"):
        loaded(specs(base, ssd=lacking))
    sharded = copy_model(base, tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelFault, match="names model-00002-of-00002"):
        resolve_model("sharded", str(sharded))


def test_an_adapter_of_another_base_names_the_first_mismatch(
    pairs: dict[str, TinyPair], tmp_path: Path
) -> None:
    foreign = tiny_adapter(pairs["llama"].baseline, tmp_path / "foreign", targets=("q_proj",))
    with pytest.raises(ModelFault, match=r"another base: it adapts model\.layers\.0\.self_attn"):
        loaded(specs(pairs["qwen3_5"].baseline, adapter=foreign))
    narrow = tmp_path / "narrow"
    shutil.copytree(foreign, narrow)
    edit_weights(narrow, _narrowed, name="adapter_model.safetensors")
    with pytest.raises(
        ModelFault, match=r"another base: .*layers\.1\.self_attn.*size 16 where .* 32"
    ):
        loaded(specs(pairs["llama"].baseline, adapter=narrow))


def _narrowed(weights: dict[str, torch.Tensor]) -> None:
    for key in weights:
        if "layers.1" in key and "lora_A" in key:
            weights[key] = weights[key][:, :16].contiguous()


@pytest.mark.parametrize("kind", ["IA3", None])
def test_only_lora_is_an_adapter(
    pairs: dict[str, TinyPair], tmp_path: Path, kind: str | None
) -> None:
    adapter = tiny_adapter(pairs["llama"].baseline, tmp_path / "adapter")
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "peft_type": kind}), encoding="utf-8")
    with pytest.raises(ModelFault, match="must be a LoRA"):
        find_sources(specs(pairs["llama"].baseline, adapter=adapter))


def test_logits_of_another_width_are_refused(pairs: dict[str, TinyPair], tmp_path: Path) -> None:
    model = load_plain(pairs["llama"].trained)
    model.resize_token_embeddings(PADDED_VOCABULARY + 8)
    model.save_pretrained(tmp_path / "wide")
    with pytest.raises(VocabularyMismatch, match="gives 408, 'wide' gives 416"):
        loaded(specs(pairs["llama"].baseline, wide=tmp_path / "wide"))


def test_an_unknown_device_is_a_fault(pairs: dict[str, TinyPair]) -> None:
    settings = specs(pairs["llama"].baseline, ssd=pairs["llama"].trained)
    settings = replace(settings, scoring=replace(SCORING, device="gpu0"))
    with pytest.raises(ModelFault, match="device 'gpu0' cannot be used"):
        loaded(settings)


def test_a_stubbed_model_shares_float32_weights(pairs: dict[str, TinyPair]) -> None:
    model = load_plain(pairs["gemma2"].baseline)
    head = stubbed(model)
    assert head.lm_head is model.lm_head
    assert head.model is not model.model
    assert dict(model.named_children()).keys() == {"model", "lm_head"}
