/* The one place of the version's text. */
#ifndef POSTERN_COMMON_VERSION_H
#define POSTERN_COMMON_VERSION_H

#define POSTERN_VERSION "0.1.0"

#endif
