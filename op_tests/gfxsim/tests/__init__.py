"""Tests of the simulator itself: what instructions compute, what the checks report, what the HIP functions do."""
