/* A journal entry as the application sees it. */
#ifndef POSTERN_CLIENT_LIB_EVENT_H
#define POSTERN_CLIENT_LIB_EVENT_H

#include "postern/postern.h"
#include "postern/v1/types.pb-c.h"

/* The event's strings and context are the entry's. */
void event_read(const Postern__V1__Entry *entry, struct postern_event *ret_event);

#endif
