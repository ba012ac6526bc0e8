"""Images in: labelled sets, folders, generated images, and the layout they are brought to."""
