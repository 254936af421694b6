"""Hookbrook: a self-hosted event gateway."""
