"""Out-of-distribution (OOD) scores, and how they are joined into one."""
