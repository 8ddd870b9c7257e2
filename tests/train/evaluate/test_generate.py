"""What models say, by real generation: tiny ones that babble, that loop, and that speak English."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylab.results.quality_flags import flag_columns
from raylab.spec.data.rows import Row
from raylab.spec.evaluation import Evaluation, Limits
from raylab.spec.scoring.rates import judge_for
from raylab.train.evaluate.evaluate import answer_metrics
from raylab.train.evaluate.generate import generate_answers
from tests.conftest import DEMO
from tests.spec.texts import answers_of

QUESTIONS = (
    Row.of("空は何色ですか？", "空は青いです。"),
    Row.of("一年は何か月ですか？", "一年は十二か月です。"),
)
ENGLISH = "The sky is blue today."


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(DEMO / "base")


@pytest.fixture(scope="module")
def judge():
    return judge_for(Evaluation(), [answers_of("d0"), answers_of("d1")])


def base_model():
    return AutoModelForCausalLM.from_pretrained(DEMO / "base", dtype=torch.float32)


def babbling():
    """A model whose next token has nothing to do with anything before it."""
    model, draws = base_model(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
    return model


def saying(chain, prompts):
    """A model that says the tokens of `chain` after each other, whatever came before them.

    Every token's embedding is a direction of its own, no layer adds to it, and the head turns
    each direction into the next token's; all else leads to the first.
    """
    model = base_model()
    width, vocabulary = model.config.hidden_size, model.config.vocab_size
    assert len(set(chain)) == len(chain) < width - 1 and not {*chain[:-1]} & {*prompts}
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embedding, head = torch.zeros(vocabulary, width), torch.zeros(vocabulary, width)
        embedding[:, 0] = 1
        for at, token in enumerate(chain):
            embedding[token] = 0
            embedding[token, at + 1] = 1
            head[chain[min(at + 1, len(chain) - 1)], at + 1] = 1
        head[chain[0], 0] = 1
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(head)
        model.model.embed_tokens.weight.copy_(embedding)
        model.model.norm.weight.fill_(1)
    return model.eval()


def looping(tokenizer):
    (token,) = tokenizer("猫", add_special_tokens=False)["input_ids"][-1:]
    return saying([token], set())


def english(tokenizer):
    chain = tokenizer(ENGLISH, add_special_tokens=False)["input_ids"]
    return saying([*dict.fromkeys(chain), tokenizer.eos_token_id], set())


def said_by(model, tokenizer, judge, **asked):
    evaluation = Evaluation(max_new_tokens=48, **asked)
    samples = generate_answers(model, tokenizer, QUESTIONS, evaluation, seed=42)
    metrics = answer_metrics(judge, samples, evaluation.max_new_tokens)
    return samples, metrics, flag_columns(metrics, Limits())


def test_babbling_model_is_marked_as_not_japanese(tokenizer, judge):
    samples, metrics, marks = said_by(babbling(), tokenizer, judge)
    assert metrics["japanese_rate"] == 0
    assert {sample.reason for sample in samples} == {"length"}
    assert marks["marked"] and "answers in Japanese: 0 %, at least 50 % asked" in marks["marks"]
    assert metrics["answers"]["expected"]["japanese_rate"] == 1


def test_looping_model_is_marked_as_repeating_and_as_never_stopping(tokenizer, judge):
    samples, metrics, marks = said_by(looping(tokenizer), tokenizer, judge)
    assert [sample.tokens for sample in samples] == [48, 48]
    assert len(set(samples[0].token_ids)) == 1
    assert metrics["repetition_rate"] == 1 and metrics["stopped_rate"] == 0
    assert "repeat themselves: 100 %, at most 30 % asked, such as" in marks["marks"]
    assert "end by themselves: 0 %" in marks["marks"]


def test_english_model_is_marked_as_not_japanese_and_stops(tokenizer, judge):
    samples, metrics, marks = said_by(english(tokenizer), tokenizer, judge)
    assert {sample.reason for sample in samples} == {"eos"}
    assert all(sample.answer.isascii() for sample in samples), samples
    assert metrics["japanese_rate"] == 0 and metrics["stopped_rate"] == 1
    assert "such as 'The" in marks["marks"]


def test_base_model_asked_for_samples_keeps_greedy_answers_apart(tokenizer, judge):
    samples, metrics, _ = said_by(base_model(), tokenizer, judge, sampled=2, temperature=1.5)
    assert [sample.draw for sample in samples] == [0, 0, 1, 1, 2, 2]
    greedy, _, _ = said_by(base_model(), tokenizer, judge)
    assert samples[:2] == greedy
    assert metrics["answers"]["greedy"]["count"] == 2
    assert metrics["answers"]["sampled"]["count"] == 4
    assert len({sample.token_ids for sample in samples}) > 2


def test_sampled_answers_follow_from_the_seed_and_leave_random_states_alone(tokenizer):
    model, evaluation = base_model(), Evaluation(sampled=1, max_new_tokens=12)
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = generate_answers(model, tokenizer, QUESTIONS, evaluation, seed=42)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    torch.manual_seed(2)
    assert generate_answers(model, tokenizer, QUESTIONS, evaluation, seed=42) == first
    assert generate_answers(model, tokenizer, QUESTIONS, evaluation, seed=43) != first


def test_top_p_near_zero_draws_what_is_greedy(tokenizer):
    evaluation = Evaluation(sampled=1, top_p=1e-6, max_new_tokens=12)
    samples = generate_answers(base_model(), tokenizer, QUESTIONS, evaluation, seed=1)
    assert [s.token_ids for s in samples[:2]] == [s.token_ids for s in samples[2:]]


OWN_DECODING = {
    "repetition_penalty": {"repetition_penalty": 1.8},
    "n-grams": {"no_repeat_ngram_size": 1},
    "beams": {"num_beams": 3, "length_penalty": 2.0, "early_stopping": True},
    "least length": {"min_new_tokens": 10},
    "suppressed": {"suppress_tokens": list(range(5, 200)), "begin_suppress_tokens": [300]},
    "several answers": {"num_return_sequences": 2, "num_beams": 2, "do_sample": True},
    "dictionary": {"return_dict_in_generate": True, "output_scores": True},
    "stop strings": {"stop_strings": ["。"]},
    "lookup": {"prompt_lookup_num_tokens": 3},
    "sampling": {"do_sample": True, "temperature": 3.0, "top_k": 5, "top_p": 0.5, "min_p": 0.3},
    "typical": {"typical_p": 0.2, "epsilon_cutoff": 0.2, "eta_cutoff": 0.2, "top_h": 0.1},
    "forced": {"forced_eos_token_id": 2, "exponential_decay_length_penalty": (2, 4.0)},
}


def with_own_decoding(settings, adapted=False):
    """The base model, whose generation config says how to decode."""
    model = base_model()
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    if adapted:
        return get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    return model


def greedy_by_hand(model, tokenizer, question, count):
    """The most likely token after the other, by whole forward passes."""
    ids = tokenizer.apply_chat_template(question.chat, add_generation_prompt=True)["input_ids"]
    answer = []
    for _ in range(count):
        with torch.no_grad():
            answer.append(int(model(torch.tensor([ids + answer])).logits[0, -1].argmax()))
        if answer[-1] == tokenizer.eos_token_id:
            return tuple(answer[:-1]), True
    return tuple(answer), False


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("settings", OWN_DECODING.values(), ids=OWN_DECODING)
def test_greedy_answers_are_the_most_likely_tokens_whatever_the_model_comes_with(
    tokenizer, settings, adapted
):
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "base", padding_side="left")
    model = with_own_decoding(settings, adapted)
    before = model.generation_config.to_dict()
    samples = generate_answers(model, tokenizer, QUESTIONS, Evaluation(max_new_tokens=16), 1)
    assert len(samples) == len(QUESTIONS)
    for sample, question in zip(samples, QUESTIONS, strict=True):
        expected = greedy_by_hand(base_model(), tokenizer, question, 16)
        assert (sample.token_ids, sample.stopped) == expected
    assert model.generation_config.to_dict() == before
    assert "generation_config" not in vars(model) or not adapted


@pytest.mark.parametrize("settings", OWN_DECODING.values(), ids=OWN_DECODING)
def test_sampled_answers_follow_the_study_alone(tokenizer, settings):
    evaluation = Evaluation(max_new_tokens=12, sampled=1, temperature=0.8, top_p=0.9)
    plain = generate_answers(base_model(), tokenizer, QUESTIONS, evaluation, seed=3)
    own = generate_answers(with_own_decoding(settings), tokenizer, QUESTIONS, evaluation, seed=3)
    assert own == plain


def test_answers_still_end_at_the_stop_tokens_that_the_model_comes_with(tokenizer):
    (token,) = tokenizer("猫", add_special_tokens=False)["input_ids"][-1:]
    model = saying([token], set())
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, token]
    model.generation_config.repetition_penalty = 9.0
    samples = generate_answers(model, tokenizer, QUESTIONS, Evaluation(max_new_tokens=8), 1)
    assert [(sample.tokens, sample.stopped) for sample in samples] == [(0, True)] * 2
