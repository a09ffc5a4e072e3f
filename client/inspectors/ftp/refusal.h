/* What a client is told, in one FTP reply line, when it gets no data connection. Pure. */
#ifndef POSTERN_FTP_REFUSAL_H
#define POSTERN_FTP_REFUSAL_H

#include "client/inspectors/ftp/dialogue.h"
#include "common/error.h"

/* Lines with CR LF, shorter than DIALOGUE_REFUSAL_CAP. The client is a stranger: it is told what it
 * needs, the log has the rest. */
const char *refusal_of_error(const struct error *err);
const char *refusal_of_reply(enum dialogue_problem problem);
/* `family` is the control connection's. */
const char *refusal_of_command(enum dialogue_problem problem, enum addr_family family);
/* The same for the log. */
const char *refusal_reason(enum dialogue_problem problem);

#endif
