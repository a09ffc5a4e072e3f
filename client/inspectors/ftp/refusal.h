/* What a client is told, in one FTP reply line, when it gets no data connection. Pure. */
#ifndef POSTERN_FTP_REFUSAL_H
#define POSTERN_FTP_REFUSAL_H

#include "client/inspectors/ftp/dialogue.h"
#include "common/error.h"

/* Lines with CR LF, shorter than DIALOGUE_REFUSAL_CAP. The client is a stranger: it is told what it
 * needs, the log has the rest. */
const char *refusal_of_error(const struct error *err);
const char *refusal_of_problem(enum dialogue_problem problem);

#endif
