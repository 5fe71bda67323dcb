"""The Python face: what ``import al_charge as ac`` offers, and what the commands are made of."""
