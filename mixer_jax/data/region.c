/* Decodes a box of a JPEG by libjpeg-turbo's partial decoding, which no Python package hands on: see jpeg.py.
 *
 * Plain C functions, called through ctypes: they need no header of Python's.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or newer is needed"
#endif

/* Colour is interpolated from the columns on both sides, so that the box needs some more of them. */
#define MARGIN 32

/* No photograph has so many scans. Each costs as much as the whole image, so a small file could hold up for hours. */
#define MOST_SCANS 500

struct errors {
  struct jpeg_error_mgr manager;
  jmp_buf failed;
};

static void fail(j_common_ptr decoder) { longjmp(((struct errors *)decoder->err)->failed, 1); }

static void say_nothing(j_common_ptr decoder) { (void)decoder; }

static void count_scans(j_common_ptr decoder) {
  if (((j_decompress_ptr)decoder)->input_scan_number > MOST_SCANS) fail(decoder);
}

static void open_decoder(struct jpeg_decompress_struct *decoder, struct errors *errors,
                         struct jpeg_progress_mgr *progress) {
  decoder->err = jpeg_std_error(&errors->manager);
  errors->manager.error_exit = fail;
  errors->manager.output_message = say_nothing;
  jpeg_create_decompress(decoder);
  progress->progress_monitor = count_scans;
  decoder->progress = progress;
}

/* Says whether the marker of the image's end stands anywhere behind the header, as it does not in a file cut short. */
static int has_end(const struct jpeg_decompress_struct *decoder) {
  const JOCTET *scan = decoder->src->next_input_byte;
  for (size_t i = decoder->src->bytes_in_buffer; i >= 2; i--)
    if (scan[i - 2] == 0xFF && scan[i - 1] == JPEG_EOI) return 1;
  return 0;
}

/* Writes the image's height and width to `size`. Returns 0, or 1 for what is no JPEG of grey or colour, or cut short. */
int read_size(const unsigned char *encoded, unsigned long length, unsigned *size) {
  struct jpeg_decompress_struct decoder;
  struct errors errors;
  struct jpeg_progress_mgr progress;
  volatile int refused = 1;

  open_decoder(&decoder, &errors, &progress);
  if (setjmp(errors.failed) == 0) {
    jpeg_mem_src(&decoder, (unsigned char *)encoded, length);
    jpeg_read_header(&decoder, TRUE);
    size[0] = decoder.image_height;
    size[1] = decoder.image_width;
    refused = (decoder.num_components != 1 && decoder.num_components != 3) || !has_end(&decoder);
  }
  jpeg_destroy_decompress(&decoder);
  return refused;
}

/* Writes the box, RGB, to `pixels`. Returns 0; 1 if that is impossible; 2 if it was done with warnings: what is damaged
 * was guessed. */
int decode_region(const unsigned char *encoded, unsigned long length, unsigned top, unsigned left, unsigned height,
                  unsigned width, unsigned char *pixels) {
  struct jpeg_decompress_struct decoder;
  struct errors errors;
  struct jpeg_progress_mgr progress;
  unsigned char *volatile row = NULL;
  volatile int result = 1;

  open_decoder(&decoder, &errors, &progress);
  if (setjmp(errors.failed) == 0) {
    jpeg_mem_src(&decoder, (unsigned char *)encoded, length);
    jpeg_read_header(&decoder, TRUE);
    decoder.out_color_space = JCS_RGB;
    jpeg_start_decompress(&decoder);
    if (top + height <= decoder.output_height && left + width <= decoder.output_width) {
      JDIMENSION first = left > MARGIN ? left - MARGIN : 0, columns = left - first + width + MARGIN;
      if (first + columns > decoder.output_width) columns = decoder.output_width - first;
      jpeg_crop_scanline(&decoder, &first, &columns); /* moves `first` to the left, to the border of a block */
      row = malloc((size_t)columns * 3);
      if (row != NULL) {
        JSAMPROW rows[] = {row};
        if (top > 0) jpeg_skip_scanlines(&decoder, top);
        for (unsigned y = 0; y < height; y++) {
          jpeg_read_scanlines(&decoder, rows, 1);
          memcpy(pixels + (size_t)y * width * 3, row + (size_t)(left - first) * 3, (size_t)width * 3);
        }
        result = errors.manager.num_warnings != 0 ? 2 : 0;
        if (result == 0 && top + height == decoder.output_height) {
          jpeg_finish_decompress(&decoder); /* which warns of what is left between the pixels and the end */
          result = errors.manager.num_warnings != 0 ? 2 : 0;
        }
      }
    }
  }
  jpeg_destroy_decompress(&decoder);
  free(row);
  return result;
}
