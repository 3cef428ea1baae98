"""What a process can be told, and what it says when it cannot use it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.settings import Settings, SettingsError, listed, load


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as error:
        load(environ)
    return str(error.value)


def test_without_a_word_the_defaults_hold() -> None:
    assert Settings() == load({})


def test_the_environment_goes_before_the_file_and_a_secret_may_be_in_one_of_its_own(tmp_path: Path) -> None:
    config, secret = tmp_path / "swarm.toml", tmp_path / "secret"
    config.write_text('shards = 8\nlease_ttl_s = 5\ns3_access_key = "me"\n')
    secret.write_text("hush\n")
    settings = load({"SWARM_CONFIG": str(config), "SWARM_SHARDS": "16", "SWARM_S3_SECRET_KEY_FILE": str(secret)})
    assert (16, 5, "me", "hush") == (
        settings.shards,
        settings.lease_ttl_s,
        settings.s3_access_key,
        settings.s3_secret_key,
    )


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("HTTP_PORT", "abc", "`int`"),
        ("HTTP_PORT", "70000", "<= 65535"),
        ("HTTP_PORT", "", "`int`"),
        ("REQUIRE_SYNC_ALWAYS", "yes", "`bool`"),
        ("SHARDS", "0", ">= 1"),
        ("LEASE_TTL_S", "-1", ">= 1"),
        ("GRACE_S", "nan", ">= 0"),
        ("RECONCILE_EVERY_S", "0", "> 0"),
        ("APPROVAL_TTL_S", "inf", "<= 1000000000"),
        ("THINKER", "modle", "'rules' or 'model'"),
        ("LOG_FORMAT", "jsno", "'json' or 'console'"),
        ("INSTANCE", "a.b c>", "letters, digits"),
        ("KILL_SWITCH_FILE", "stop", "the whole path"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_would_do(name: str, value: str, wanted: str) -> None:
    said = refused({f"SWARM_{name}": value})
    assert said.startswith(f"SWARM_{name}={value!r}") and wanted in said


def test_a_limit_of_a_swarm_above_the_whole_meshs_is_refused() -> None:
    for what in ("TOKENS", "COMPUTE_MS"):
        assert f"SWARM_SWARM_{what}_PER_MINUTE" in refused({f"SWARM_SWARM_{what}_PER_MINUTE": "9000000"})


def test_a_file_that_is_missing_a_folder_or_no_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for name in ("SWARM_CONFIG", "SWARM_S3_SECRET_KEY_FILE", "SWARM_HTTP_KEYS_FILE"):
        for path in (binary, tmp_path, tmp_path / "missing"):
            assert refused({name: str(path)}).startswith(f"{name}={path}: ")


def test_a_name_nobody_knows_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "swarm.toml"
    config.write_text('nats_ulr = "nats://x"\n')
    assert "'nats_ulr'" in refused({"SWARM_CONFIG": str(config)})


@pytest.mark.parametrize(
    "line", ['s3_secret_key = ["hush"]', 'http_keys = [{ token = "hush" }]', "model_api_key = 4711"]
)
def test_what_may_be_a_secret_is_not_said(tmp_path: Path, line: str) -> None:
    config = tmp_path / "swarm.toml"
    config.write_text(line)
    said = refused({"SWARM_CONFIG": str(config)})
    assert said.startswith(f"SWARM_{line.split()[0].upper()}: ") and "hush" not in said and "4711" not in said


def test_a_list_is_separated_by_commas_and_no_empty_item_counts() -> None:
    assert ("a", "b") == listed(" a,,b , ")


def test_every_default_is_one_that_may_be_given() -> None:
    assert Settings() == msgspec.convert(msgspec.to_builtins(Settings()), Settings)


def test_dedup_ids_are_keyed_with_what_core_shares_else_with_the_process_own_seed(tmp_path: Path) -> None:
    seed = tmp_path / "runner.nk"
    seed.write_text("SUA")
    shared, own = Settings(core_secret="s", nats_seed_file=str(seed)), Settings(nats_seed_file=str(seed))
    assert shared.dedup_key() == Settings(core_secret="s").dedup_key()
    assert len({shared.dedup_key(), own.dedup_key(), Settings().dedup_key()}) == 3
