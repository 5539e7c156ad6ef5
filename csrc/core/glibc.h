/* Included before every source of a release build for x86-64 with glibc (setup.py): functions that glibc from 2.27
 * on gave another version or name, under those that every glibc has, so that a wheel of a new machine loads on an old
 * one (manylinux_2_17). Where the threads and the loader were libraries apart, CPython itself has loaded them. */
#ifndef AC_CORE_GLIBC_H
#define AC_CORE_GLIBC_H

#define AC_OLDEST(name) __asm__(".symver " #name "," #name "@GLIBC_2.2.5")

AC_OLDEST(expf);
AC_OLDEST(exp);
AC_OLDEST(log);
AC_OLDEST(log2);
AC_OLDEST(pthread_sigmask);
AC_OLDEST(pthread_create);
AC_OLDEST(pthread_join);
AC_OLDEST(pthread_once);
AC_OLDEST(pthread_mutex_trylock);
AC_OLDEST(pthread_mutex_timedlock);
AC_OLDEST(dlopen);
AC_OLDEST(dlsym);
AC_OLDEST(dlerror);
AC_OLDEST(dladdr);
/* Headers of glibc 2.38 and newer rename these. */
__asm__(".symver __isoc23_strtol,strtol@GLIBC_2.2.5");
__asm__(".symver __isoc23_strtoll,strtoll@GLIBC_2.2.5");
__asm__(".symver __isoc23_sscanf,__isoc99_sscanf@GLIBC_2.7");

#endif
