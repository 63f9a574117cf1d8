"""``ttft workload show``: a golden of what it prints, the pictures, and one sentence for every mistake."""

import re
import sys
from pathlib import Path

import pytest

import cli

GOLDEN = Path(__file__).parents[1] / "goldens" / "workload_show.txt"
TRACES = Path(__file__).parents[1] / "data" / "traces"


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``ttft workload show`` with these words, in the folder of the traces."""
    monkeypatch.chdir(TRACES)
    monkeypatch.setattr(sys, "argv", ["ttft", "workload", "show", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def test_what_it_prints(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for words in (
        ["mooncake:path=mooncake.jsonl,scale=0.5", "--max-tokens", "1000"],
        ["burstgpt:path=burstgpt.csv"],
        ["sharegpt:path=sharegpt.json,tokenizer=bytes", "--chunk-tokens", "16"],
    ):
        code, out, err = run(capsys, monkeypatch, *words)
        assert (code, err) == (0, "")
        texts.append(f"$ ttft workload show {' '.join(words)}\n" + re.sub(r" +\n", "\n", out))
    assert "\n".join(texts) == GOLDEN.read_text()


def test_pictures_only_where_a_folder_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    code, out, _ = run(capsys, monkeypatch, "azure:path=azure.csv", "--out", str(folder))
    assert code == 0
    assert "Wrote 3 pictures into" in out
    assert {file.name for file in folder.iterdir()} == {"lengths.png", "reuse.png", "arrivals.png"}


def test_a_model_decides_what_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = "builtin:layers=1,hidden=64,intermediate=64,vocabulary=256,max_positions=1024"
    _, out, _ = run(capsys, monkeypatch, "azure:path=azure.csv", "--model", model)
    assert "Skipped 1 of 6 prompts: with the output, longer than the 1,024 tokens" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["azur:path=azure.csv"], "unknown workload 'azur' (did you mean 'azure'?)"),
        (["azure"], "workload 'azure' needs the option 'path'"),
        (["azure:path=nowhere.csv"], "cannot read nowhere.csv: No such file or directory"),
        (["azure:path=burstgpt.csv"], "burstgpt.csv:1: the header has no column 'TIMESTAMP'"),
        (["burstgpt:path=mooncake.jsonl"], "mooncake.jsonl:1: the header has no column 'Timestamp'"),
        (["mooncake:path=timed.jsonl"], "timed.jsonl:1: hash_ids has 3 entries, but input_length=40 makes 1 blocks"),
        (["timed_trace:path=batch.jsonl"], "batch.jsonl:1: the field 'timestamp' is missing"),
        (["sharegpt:path=batch.jsonl,tokenizer=bytes"], "batch.jsonl:1: the field 'conversations' is missing"),
        (["openai_batch:path=sharegpt.json"], "sharegpt.json:1: not one JSON object"),
        (["sharegpt:path=sharegpt.json,tokenizer=/nowhere"], "tokenizer=/nowhere cannot be loaded"),
        (["azure:path=azure.csv", "--max-tokens", "50"], "no prompt of azure.csv at scale=1.0 fits the model"),
        (["azure:path=azure.csv", "--out", "azure.csv"], "the pictures cannot be written to azure.csv"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, *words)
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert "Traceback" not in out + err


def test_the_shipped_sample_is_shown_with_the_stated_block_hit_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Path(__file__).parents[3] / "shared" / "data" / "mooncake_conversation_4000.jsonl"
    if not sample.exists():
        pytest.skip(f"needs the trace {sample.name}, which is not part of this project")
    code, out, _ = run(capsys, monkeypatch, f"mooncake:path={sample}")
    assert code == 0
    assert "32.6% of the trace's blocks (512 tokens each)" in out
