"""Tables: columns that never depend on rows."""

import csv
import io
import json
import subprocess
import sys

import pyarrow as pa
import pytest

from raylab.errors import StoreError
from raylab.store.columns import VOLATILE
from raylab.store.filesystem import Store
from raylab.store.schemas import SCHEMAS
from raylab.store.tables import read_table, rows_of, to_csv, to_table, write_table

# Columns that the design promises; more may be added, none renamed.
PROMISED = {
    "trials": "trial_id name model recipe method data seed learning_rate parent status cause "
    "message attempts micro_batch train_loss eval_loss l1 l2 japanese_rate stopped_rate "
    "repetition_rate style_rate marked marks seconds tokens_per_second peak_memory_bytes "
    "adapter log",
    "attempts": "trial_id cause node seconds",
    "norms": "comparison a b view level key numel l1 l2 linf nonzero relative_l2",
    "densities": "comparison view density num_keep threshold at_or_above l1 l2 l1_share l2_share",
    "curve": "comparison view density l1_share l2_share",
    "pairs": "a b view level key cosine sign_agreement sign_conflict density overlap "
    "overlap_by_chance",
    "kept_by": "model group name models view level key density numel by_all by_some by_one by_none "
    "counts all_by_chance conflicts sign_conflict",
    "kept_of": "merge parent view universe level key numel cosine density largest survived zero "
    "survived_share note",
    "subspaces": "a b view level key side k overlap angle_median angle_first chance",
    "spectra": "model tensor singular_values effective_rank",
    "intruders": "model level key top epsilon intruders intruder_share share_left share_right",
    "paths": "trial_id name step layer norm step_norm turn sketch note",
    "functions": "a b data answers prompts tokens kl_ab kl_ba js top1_agreement l_next",
    "cka": "a b data layer tokens cka",
    "differing_tokens": "comparison a b data prompt position token kl p_a p_b top_a top_b",
    "chains": "model level key l2_parent l2_child l2 cosine cancellation",
}
SAMPLE = {
    pa.string(): '日本語,\n"x"',
    pa.int64(): 2**62,
    pa.float64(): 0.1,
    pa.bool_(): True,
    pa.list_(pa.float64()): [0.1, 1e-300],
    pa.list_(pa.int64()): [0, 2**62],
    pa.list_(pa.string()): ['日本語,\n"x"', ""],
}


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "out"))


@pytest.mark.parametrize("name", PROMISED)
def test_schema_holds_the_promised_columns(name):
    assert set(PROMISED[name].split()) <= set(SCHEMAS[name].names)


@pytest.mark.parametrize("name", SCHEMAS)
def test_table_without_rows_keeps_its_schema(name, store):
    write_table(store, name, [])
    assert read_table(store, name).schema.equals(SCHEMAS[name])
    assert rows_of(read_table(store, name)) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_table_written_reads_back(name, store):
    full = {field.name: SAMPLE[field.type] for field in SCHEMAS[name]}
    rows = [full, {}, full]
    written = write_table(store, name, rows)
    assert read_table(store, name).equals(written)
    assert rows_of(written) == [full, dict.fromkeys(full), full]


@pytest.mark.parametrize("name", SCHEMAS)
def test_table_any_order_of_keys_gives_the_same_bytes(name, tmp_path):
    full = {field.name: SAMPLE[field.type] for field in SCHEMAS[name]}
    one, two = Store(str(tmp_path / "1")), Store(str(tmp_path / "2"))
    write_table(one, name, [full])
    write_table(two, name, iter([dict(reversed(full.items()))]))
    assert one.read(f"tables/{name}.parquet") == two.read(f"tables/{name}.parquet")


def test_table_unknown_column_is_a_mistake_of_raylab():
    with pytest.raises(AssertionError, match="typo"):
        to_table("curve", [{"typo": 1}])


def test_table_wrong_type_is_refused():
    with pytest.raises((pa.ArrowException, TypeError)):
        to_table("norms", [{"numel": "many"}])


def test_table_absent_raises(store):
    with pytest.raises(StoreError, match="norms"):
        read_table(store, "norms")


def test_csv_awkward_texts_read_back():
    table = to_table("samples", [{"prompt": '改行\nと,"引用"', "answer": None, "tokens": 3}])
    [row] = csv.DictReader(io.StringIO(to_csv(table).decode("utf-8"), newline=""))
    assert (row["prompt"], row["answer"], row["tokens"]) == ('改行\nと,"引用"', "", "3")


def test_volatile_columns_are_those_of_the_design():
    expected = {"seconds", "tokens_per_second", "peak_memory_bytes", "attempts", "log", "node"}
    assert expected <= set(VOLATILE)
    assert not {"l1", "l2", "linf", "threshold", "status", "trial_id"} & set(VOLATILE)


def test_csv_list_column_is_json():
    row = {"model": "a", "tensor": "t", "singular_values": [1.5, 0.25], "shares": None}
    lines = list(csv.DictReader(io.StringIO(to_csv(to_table("spectra", [row])).decode())))
    assert json.loads(lines[0]["singular_values"]) == [1.5, 0.25]
    assert lines[0]["shares"] == ""


_READ_AND_END = """
import sys
from raylab.store.filesystem import Store
from raylab.store.tables import read_table
for _ in range(3):
    read_table(Store(sys.argv[1]), "curve")
"""


def test_tables_read_just_before_the_process_ends_do_not_abort_it(tmp_path):
    write_table(Store(str(tmp_path)), "curve", [{"comparison": "a~b", "density": 0.5}])
    for _ in range(10):
        ended = subprocess.run([sys.executable, "-c", _READ_AND_END, str(tmp_path)])
        assert ended.returncode == 0
