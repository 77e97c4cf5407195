"""The level-triggered loop: informers give keys, a queue serialises them, one pass serves one key."""
