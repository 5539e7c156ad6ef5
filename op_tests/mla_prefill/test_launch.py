"""What a GPU's driver is asked for, on one that computes nothing."""

from __future__ import annotations

from runtime.launches import launches_of

test_launches = launches_of("mla_prefill")
