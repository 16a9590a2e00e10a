"""zygo."""
