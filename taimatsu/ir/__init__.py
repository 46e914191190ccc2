"""Data structures of programs: descriptions, graphs, printing, verification."""
