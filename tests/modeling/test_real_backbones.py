"""The small real models that come as packages: a decoder and an encoder each train a step, save, load and score."""

import pytest
import torch
from transformers import AutoTokenizer

from tests.tiny import chat
from wildreward import RewardScorer, WildRewardForSequenceClassification
from wildreward.modeling_wildreward.template import install_template

CONVERSATIONS = [
    chat("How many legs does a spider have?", "A spider has eight legs."),
    chat("And an ant?", "Six, like every insect.", "How many legs does a spider have?", "A spider has eight legs."),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pooling"), [("minilm", "mean"), ("smollm2", "last")])
def test_real_backbone_trains_saves_loads_and_scores(name, pooling, tmp_path, request):
    folder = request.getfixturevalue(name)
    model = WildRewardForSequenceClassification.from_backbone(folder, dtype=torch.float32)
    assert model.config.pooling == pooling
    scorer = RewardScorer(model, install_template(AutoTokenizer.from_pretrained(folder)))
    input_ids, mask = scorer._pad(scorer._encode(CONVERSATIONS))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = model.train()(input_ids=input_ids, attention_mask=mask, labels=torch.tensor([4, 1])).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] != losses[0]
    scorer = RewardScorer(model, scorer.tokenizer)
    before = scorer.score(CONVERSATIONS)
    scorer.save_pretrained(tmp_path)
    again = RewardScorer.from_pretrained(tmp_path)
    assert again.score(CONVERSATIONS) == pytest.approx(before, abs=1e-4)
    one = [again.score([conversation])[0] for conversation in CONVERSATIONS]
    assert one == pytest.approx(before, abs=1e-4)
    prompt, completions = CONVERSATIONS[1][:-1], ["Six, like every insect.", "Eight.", "Ants have no legs at all."]
    shared = again.score_candidates(prompt, completions)
    assert shared == pytest.approx(
        again.score([[*prompt, {"role": "assistant", "content": text}] for text in completions]), abs=1e-4
    )
