-- Dead letters of a group, a topic or a state are found among however many others.

-- What there is of these three together is little, so one index leads to any choice of them: its parts are merged by id.
CREATE INDEX dead_letters_by_kind ON dead_letters (consumer_group, topic, state, id);
