"""Faults made on purpose: kills, full disks, damaged files; survivors are compared bit by bit."""
