from __future__ import annotations

from tests.bench import payments

KEYS = (
    "sign_us verify_us payment_ms_p50 payment_ms_p99 payments_per_s_one_way payments_per_s_both_ways durable"
    " crypto_limit_per_s ratio_to_limit open_ms close_ms bytes_per_payment db_bytes_per_payment rss_mib_per_1000_channels"
)


async def test_the_bench_measures_between_two_processes() -> None:
    figures = await payments.measure(singly=5, many=200, opened=2, channels=50)
    assert list(figures) == KEYS.split()
    assert figures["durable"] is True
    assert all(value > 0 for name, value in figures.items() if name != "rss_mib_per_1000_channels")
