"""One Zarr v3 run: plan, writer, reader, verify. The only code that names Zarr paths."""
