"""Only code that determines the bits of a net: a change here makes every net a different one."""
