"""The trainer: equal results however the work is cut, metrics, checkpoints, faults."""

import json
import math
import textwrap
from dataclasses import replace

import pytest
import torch
from datasets import Dataset, load_dataset
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.tiny import reward_model, save_backbone, tokenizer_for
from tests.training.reward_tiny import config, losses, toy_dataset, toy_rows, trainer, weights
from wildreward.common.errors import UserError
from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.training.model_setup import build_model, layers_of
from wildreward.training.resume import last_complete_checkpoint
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_metrics import WATCHED
from wildreward.training.reward_trainer import NonFiniteLoss, OrdinalRewardTrainer


def assert_same(first, second, tolerance=2e-5):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=tolerance, rtol=1e-3, msg=name)


def trained(folder, **settings):
    made = trainer(folder, **settings)
    made.train()
    return made


def test_small_passes_add_up_to_the_large_batch(tmp_path):
    large = trained(tmp_path / "a", tokens_per_device=100_000, pass_overhead=100_000)
    small = trained(tmp_path / "b", tokens_per_device=1)  # every row alone
    assert losses(large) == pytest.approx(losses(small), abs=1e-5)
    assert_same(weights(large), weights(small))


def test_packed_rows_train_like_padded_ones(tmp_path):
    padded = trained(tmp_path / "a", padding_free="off", pass_overhead=10_000)
    packed = trained(tmp_path / "b", padding_free="on")
    batch = next(iter(packed.get_train_dataloader()))["micro_batches"][0]
    assert batch["input_ids"].shape[0] == 1 and len(batch["labels"]) > 1
    assert losses(padded) == pytest.approx(losses(packed), abs=1e-5)
    assert_same(weights(padded), weights(packed))


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_compiled_layers_train_and_save_like_the_others(tmp_path, kind):
    torch._dynamo.utils.counters.clear()
    plain = trainer(tmp_path / "plain", kind)
    compiled = trainer(tmp_path / "compiled", kind, torch_compile=True, torch_compile_backend="aot_eager")
    plain.train()
    compiled.train()
    assert 0 < torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 8
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-5)
    rows = toy_dataset(16, seed=1)
    assert compiled.evaluate(rows)["eval_loss"] == pytest.approx(plain.evaluate(rows)["eval_loss"], abs=1e-5)
    compiled.save_reward_model(str(tmp_path / "model"))
    again = WildRewardForSequenceClassification.from_pretrained(tmp_path / "model")
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in plain.model.state_dict().items()
    }


def test_layers_are_told_from_what_is_inside_them():
    layers = torch.nn.ModuleList(
        torch.nn.ModuleDict({"experts": torch.nn.ModuleList([torch.nn.Identity()] * 9)}) for _ in "ab"
    )
    model = torch.nn.ModuleDict({"short": torch.nn.ModuleList([torch.nn.Identity()]), "layers": layers})
    assert layers_of(model) == [*layers]
    blocks = torch.nn.ModuleList(torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()]) for _ in "ab")
    assert layers_of(blocks) == [layer for block in blocks for layer in block]
    with pytest.raises(UserError, match="need a backbone with a list of layers"):
        layers_of(torch.nn.Identity())


def test_frozen_layers_stay_as_they_were(tmp_path):
    arguments = TrainRewardArguments(dataset="", base_model=save_backbone("bert", tmp_path / "base"), frozen_layers=1)
    model, _, _ = build_model(arguments, None, 0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("embeddings" in name or "layer.0." in name for name in trained)
    assert any("layer.1." in name for name in trained) and {"score.weight", "score.bias"} <= trained
    with pytest.raises(UserError, match="frozen_layers is 3, but the backbone has 2 layers"):
        build_model(replace(arguments, frozen_layers=3), None, 0)


def test_gradient_accumulation_makes_the_step_larger(tmp_path):
    accumulated = trained(tmp_path / "a", per_device_train_batch_size=4, gradient_accumulation_steps=2)
    direct = trained(tmp_path / "b", per_device_train_batch_size=8)
    assert accumulated.args.rows_per_step == 8
    assert losses(accumulated) == losses(direct)


def test_dropout_is_off_unless_asked_for_and_adapters_keep_theirs(tmp_path):
    from peft import LoraConfig

    def probabilities(made):
        return {module.p for module in made.model.modules() if isinstance(module, torch.nn.Dropout)}

    assert probabilities(trainer(tmp_path / "a", kind="bert")) == {0}
    assert probabilities(trainer(tmp_path / "b", kind="bert", disable_dropout=False)) == {0.1}
    adapters = LoraConfig(task_type="SEQ_CLS", target_modules=["query"], modules_to_save=["score"], lora_dropout=0.2)
    assert probabilities(trainer(tmp_path / "c", kind="bert", peft_config=adapters)) == {0, 0.2}


def test_packing_is_refused_where_attention_mixes_the_rows(tmp_path):
    with pytest.raises(UserError, match="padding_free is on, but this model's attention cannot"):
        trainer(tmp_path, kind="bert", padding_free="on")


@pytest.mark.parametrize("head", ["coral", "corn", "independent"])
def test_it_learns_and_reports_metrics(tmp_path, head):
    made = trainer(
        tmp_path,
        kind="bert",
        model=reward_model("bert", head),
        rows=toy_dataset(120),
        eval_rows=toy_dataset(60, seed=1),
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    made.train()
    logged = [entry for entry in made.state.log_history if "eval_roc_auc" in entry]
    assert len(logged) == 3
    assert {"eval_loss", "eval_mae", "eval_qwk", "eval_accuracy", "eval_ece", "eval_spearman"} <= logged[0].keys()
    assert logged[-1]["eval_roc_auc"] > 0.9
    best = max(logged, key=lambda entry: entry["eval_roc_auc"])
    assert made.state.best_metric == best["eval_roc_auc"]
    chosen = next(entry for entry in logged if entry["step"] == made.state.best_global_step)
    assert made.evaluate()["eval_roc_auc"] == pytest.approx(chosen["eval_roc_auc"])  # the best weights are back


def test_calibration_lowers_the_loss_and_keeps_the_order_of_scores(tmp_path):
    made = trainer(tmp_path, kind="bert", rows=toy_dataset(120), eval_rows=toy_dataset(60, seed=1), learning_rate=5e-3)
    made.train()
    before = made.evaluate()
    stated = made.calibrate()
    after = made.evaluate()
    assert made.model.config.temperatures != [1.0, 1.0, 1.0]
    measured = [f"eval_{name}" for name in WATCHED]
    assert [stated[name] for name in measured] == pytest.approx([after[name] for name in measured])
    assert after["eval_roc_auc"] == pytest.approx(before["eval_roc_auc"])


def test_training_stops_early_when_nothing_improves(tmp_path):
    made = trainer(
        tmp_path,
        eval_rows=toy_dataset(24, seed=1),
        num_train_epochs=8,
        learning_rate=1e-12,
        eval_strategy="epoch",
        save_strategy="epoch",
        early_stopping_patience=2,
    )
    made.train()
    assert made.state.epoch == 3.0


@pytest.mark.parametrize("killed_in_epoch", [2, 3])
def test_a_resumed_run_stops_early_where_an_undisturbed_one_does(tmp_path, killed_in_epoch):
    class Killed(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if state.epoch == killed_in_epoch:
                raise KeyboardInterrupt

    def made(**more):
        settings = {"num_train_epochs": 8, "learning_rate": 1e-12, "eval_strategy": "epoch", "save_strategy": "epoch"}
        return trainer(tmp_path, eval_rows=toy_dataset(24, seed=1), early_stopping_patience=2, **settings, **more)

    first = made()
    first.add_callback(Killed())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    resumed = made()
    resumed.train(resume_from_checkpoint=str(last_complete_checkpoint(tmp_path)))
    assert resumed.state.epoch == 3.0


def test_a_loss_that_is_not_a_number_names_the_rows_and_keeps_the_last_checkpoint(tmp_path):
    class Poisoned(OrdinalRewardTrainer):
        def _inputs(self, batch):
            if "c7_turn1" in batch["ids"] and self.state.global_step >= 6 and self.model.training:
                batch = batch | {"sample_weights": batch["sample_weights"] * math.nan}
            return super()._inputs(batch)

    model = reward_model("llama")
    made = Poisoned(
        model=model,
        args=config(tmp_path, num_train_epochs=2, save_strategy="steps", save_steps=5, tokens_per_device=1),
        train_dataset=toy_dataset(),
        processing_class=tokenizer_for("llama"),
    )
    with pytest.raises(NonFiniteLoss, match=r"the loss is nan at step \d+, with the rows c7_turn1; no update was made"):
        made.train()
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert (tmp_path / "checkpoint-5" / "trainer_state.json").exists()


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_an_infinite_gradient_is_refused_too(tmp_path, max_grad_norm):
    made = trainer(tmp_path, max_grad_norm=max_grad_norm)
    made.model.score.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLoss, match=r"the gradient's norm is .* at step 1, with the rows c"):
        made.train()
    assert all(bool(parameter.isfinite().all()) for parameter in made.model.parameters())


def test_a_refusal_does_not_promise_what_deepspeed_does_not_keep(tmp_path):
    made = trainer(tmp_path)
    assert "no update was made and the last checkpoint is intact" in str(
        made._not_finite("the loss is nan", [{"ids": ["r"]}])
    )
    made.is_deepspeed_enabled = True
    assert "the update was not saved and the last checkpoint" in str(
        made._not_finite("the loss is nan", [{"ids": ["r"]}])
    )


def test_adapters_are_trained_alone_and_merged_into_the_saved_model(tmp_path):
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification

    model = reward_model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapters = LoraConfig(r=4, target_modules="all-linear", exclude_modules=["score"], modules_to_save=["score"])
    made = trainer(tmp_path / "work", model=model, peft_config=adapters, num_train_epochs=2)
    made.train()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        expected = made.model.eval()(input_ids=ids).threshold_logits
    base = made.model.get_base_model().model.layers[0].self_attn.q_proj.base_layer.weight
    assert torch.equal(base, before["model.layers.0.self_attn.q_proj.weight"])
    made.save_reward_model(str(tmp_path / "out"))
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).threshold_logits, expected, atol=1e-5, rtol=1e-4)
    assert not torch.equal(loaded.score.weight, before["score.weight"])


@pytest.mark.parametrize("head", ["coral", "corn"])
def test_the_head_beside_adapters_is_trained_and_saved_in_float32(tmp_path, head):
    from peft import LoraConfig

    model = reward_model("llama", head).to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    with torch.no_grad():
        model.score.bias.fill_(2.0)  # where bfloat16 has steps of 2^-6
    made = trainer(
        tmp_path / "work",
        model=model,
        peft_config=LoraConfig(r=4, target_modules="all-linear", exclude_modules=["score"]),
        learning_rate=1e-4,
    )
    made.train()
    head = made.model.get_base_model().score
    assert {weight.dtype for weight in head.parameters()} == {torch.float32}
    moved = (head.modules_to_save["default"].bias - 2.0).abs()
    assert moved.min() > 0 and moved.max() < 2**-7  # each moved, by less than half a step of bfloat16

    expected = made.predict(toy_dataset(8)).predictions
    made.save_reward_model(str(tmp_path / "out"))
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {name for name, value in saved.items() if value.dtype == torch.float32} == {"score.weight", "score.bias"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    again = WildRewardForSequenceClassification.from_pretrained(tmp_path / "out")
    assert {weight.dtype for weight in again.model.parameters()} == {torch.bfloat16}
    assert torch.equal(again.score.bias, saved["score.bias"])  # in bfloat16 it would be rounded
    found = trainer(tmp_path / "again", model=again).predict(toy_dataset(8)).predictions
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), atol=0.05, rtol=0.02)


def test_training_bfloat16_weights_themselves_comes_with_a_warning(tmp_path, caplog):
    trainer(tmp_path / "a")
    assert "round to nothing" not in caplog.text
    trainer(tmp_path / "b", model=reward_model("llama").to(torch.bfloat16))
    assert "the trained weights are bfloat16: most updates of learning rate 0.001 round to nothing" in caplog.text


def test_a_stream_trains_like_the_same_rows_in_one_step(tmp_path):
    rows = toy_rows(24)
    stored = trained(tmp_path / "a", rows=Dataset.from_list(rows), per_device_train_batch_size=24)
    streamed = trained(
        tmp_path / "b", rows=Dataset.from_list(rows).to_iterable_dataset(), per_device_train_batch_size=24, max_steps=1
    )
    assert losses(stored) == pytest.approx(losses(streamed), abs=1e-5)
    assert_same(weights(stored), weights(streamed))


def test_a_stream_is_reshuffled_and_cut_into_full_steps(tmp_path):
    made = trainer(tmp_path, rows=toy_dataset(20).to_iterable_dataset(), max_steps=5, per_device_train_batch_size=8)
    made.train()
    assert made.state.global_step == 5
    ids = []
    for epoch in (0, 1, 0):
        steps = [[f["id"] for f in step] for step in made.train_dataset.one_pass(epoch)]
        ids.append([row for step in steps for row in step])
        assert [len(step) for step in steps] == [8, 8, 4]
    assert ids[0] == ids[2] != ids[1] and sorted(ids[0]) == sorted(ids[1])


def seen_rows(made) -> list[list[str]]:
    """The rows of each step from now on."""
    steps = []
    step = made.training_step

    def training_step(model, inputs, *more):
        steps.append(sorted(row for batch in inputs["micro_batches"] for row in batch["ids"]))
        return step(model, inputs, *more)

    made.training_step = training_step
    return steps


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_is_resumed_in_any_pass_and_each_pass_has_its_order(tmp_path, workers):
    settings = {"max_steps": 8, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None}

    def made():
        rows = toy_dataset(20).to_iterable_dataset()  # 3 steps a pass
        return trainer(tmp_path, rows=rows, dataloader_num_workers=workers, **settings)

    undisturbed = made()
    rows = seen_rows(undisturbed)
    undisturbed.train()
    passes = [[row for step in steps for row in step] for steps in (rows[0:3], rows[3:6])]
    assert [len(step) for step in rows] == [8, 8, 4, 8, 8, 4, 8, 8]
    assert passes[0] != passes[1] and sorted(passes[0]) == sorted(passes[1])
    for step in (2, 3, 5):  # inside the first pass, at its end, inside the second
        resumed = made()
        again = seen_rows(resumed)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert again == rows[step:]
        assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(resumed).items())


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"level_weighting": "balanced", "max_steps": 1}, r"level_weighting \(levels are counted\)"),
        ({"threshold_weighting": "importance", "max_steps": 1}, "threshold_weighting"),
        ({"save_strategy": "epoch", "max_steps": 1}, r"save_strategy epoch \(a stream has steps only\)"),
        ({}, "max_steps -1"),
    ],
)
def test_what_needs_the_whole_dataset_is_refused_for_a_stream(tmp_path, settings, named):
    with pytest.raises(UserError, match=f"not possible with a streamed dataset: {named}"):
        trainer(tmp_path, rows=toy_dataset(8).to_iterable_dataset(), **settings)


def test_a_stream_without_a_row_to_train_on_ends_in_an_error(tmp_path):
    rows = Dataset.from_list([row | {"label": None} for row in toy_rows(8)]).to_iterable_dataset()
    with pytest.raises(UserError, match="the streamed dataset has no row that can be trained on"):
        trainer(tmp_path, rows=rows, max_steps=1).train()


def test_smoothing_and_weights_reach_the_loss(tmp_path):
    plain = losses(trained(tmp_path / "a"))
    for number, settings in enumerate(
        [
            {"label_smoothing_factor": 0.2},
            {"level_weighting": "balanced"},
            {"threshold_weighting": "importance"},
            {"use_confidence": True},
        ]
    ):
        assert losses(trained(tmp_path / f"b{number}", **settings)) != pytest.approx(plain, abs=1e-6)


def test_a_model_by_name_gets_a_head_with_the_levels_frequencies(tmp_path):
    from tests.tiny import save_backbone

    name = save_backbone("llama", tmp_path / "base")
    rows = [row for row in toy_rows(60) if row["label"] != 1]
    made = OrdinalRewardTrainer(model=name, args=config(tmp_path / "out"), train_dataset=Dataset.from_list(rows))
    counts = [sum(row["label"] == level for row in rows) + 1 for level in (1, 2, 3, 4)]
    above_one = made.model.score.biases().sigmoid()[0].item()
    assert above_one == pytest.approx(1 - counts[0] / sum(counts), abs=1e-4)


def test_a_backbone_is_recorded_by_its_hub_id(minilm, tmp_path):
    made = OrdinalRewardTrainer(model=minilm, args=config(tmp_path, max_length=64), train_dataset=toy_dataset(8))
    assert made.model.config.base_model == minilm and made.model.config.text_config.hidden_size == 384


def test_temperatures_from_few_rows_come_with_a_warning(tmp_path, caplog):
    made = trainer(tmp_path)
    made.calibrate(toy_dataset(16, seed=1))
    assert "fitted on 16 rows only" in caplog.text


def test_an_undefined_metric_chooses_no_best_checkpoint_and_stops_nothing(tmp_path):
    good = Dataset.from_list([row for row in toy_rows(60, seed=1) if row["label"] == 4])
    made = trainer(tmp_path, eval_rows=good, eval_strategy="epoch", save_strategy="epoch")
    made.train()
    assert made.state.best_metric is None and made.state.epoch == 1.0
    assert "eval_roc_auc" not in made.evaluate()


def test_one_process_trains_on_one_gpu(tmp_path, caplog):
    """As transformers counts two GPUs it copies the model to both, and weighs the parts of a step wrongly."""
    args = config(tmp_path)
    args._n_gpu = 2
    made = OrdinalRewardTrainer(reward_model("llama"), args, toy_dataset(8), processing_class=tokenizer_for("llama"))
    assert args.n_gpu == 1 and "training on the first of 2 GPUs" in caplog.text
    assert not isinstance(made._wrap_model(made.model), torch.nn.DataParallel)
    made.train()


def test_evaluation_needs_rows(tmp_path):
    with pytest.raises(UserError, match="eval_strategy is set but there is no eval_dataset"):
        trainer(tmp_path, eval_strategy="epoch", save_strategy="epoch")


def test_the_example_in_the_documentation_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = save_backbone("bert", "base")
    toy_dataset().to_parquet("my-feedback/rows.parquet")
    example = textwrap.dedent(OrdinalRewardTrainer.__doc__.split("```python\n")[1].split("```")[0])
    names = {
        "OrdinalRewardTrainer": OrdinalRewardTrainer,
        "OrdinalRewardConfig": OrdinalRewardConfig,
        "load_dataset": load_dataset,
    }
    exec(example.replace("sentence-transformers/all-MiniLM-L6-v2", str(backbone)), names)
    assert names["trainer"].state.global_step > 0 and "eval_mae" in names["trainer"].state.log_history[-2]


def test_without_settings_and_held_out_rows_nothing_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows, tokenizer = toy_dataset(8), tokenizer_for("bert")
    bare = OrdinalRewardTrainer(reward_model("bert"), train_dataset=rows, processing_class=tokenizer)
    assert bare.args.eval_strategy == "no"
    held = OrdinalRewardTrainer(reward_model("bert"), None, rows, rows, processing_class=tokenizer)
    assert held.args.eval_strategy == "steps"


def test_a_run_that_had_made_all_its_steps_trains_no_further(tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 4}  # in the middle of an epoch of six
    made = trainer(tmp_path, **settings)
    made.train()
    again = trainer(tmp_path, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert again.state.global_step == 4 and losses(again) == losses(made)
    assert all(torch.equal(value, weights(made)[name]) for name, value in weights(again).items())
