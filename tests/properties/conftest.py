"""Hypothesis settings: no deadline, because a busy machine makes a test slow, not wrong."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")
