"""What envprov knows and decides: pure, without I/O, clock, randomness or logging."""
