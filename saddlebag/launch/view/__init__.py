"""`saddlebag view`: runs beside each other on one page, live while they go."""
