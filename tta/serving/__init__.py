"""An HTTP server around a deployment: `tta serve`."""
