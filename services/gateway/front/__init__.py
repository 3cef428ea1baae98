"""What every request passes and how answers leave: keys, rates, the event stream, the API's documentation."""
