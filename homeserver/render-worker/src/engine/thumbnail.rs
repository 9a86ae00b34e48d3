//! Thumbnails. Only PNG, JPEG, GIF and WebP are decoded, by decoders in Rust, and only after the size in the image's header was
//! checked (T77). Of an animation the first image counts. Must not enlarge an image.

use std::io::Cursor;

use bytes::Bytes;
use image::{
    DynamicImage, ImageDecoder as _, ImageError, ImageReader, Limits,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
    imageops::FilterType,
    metadata::Orientation,
};
use weft_render::protocol::Answer;
use weft_render::{ImageFormat, NotRendered};
use weft_wire::limits::{MAX_THUMBNAIL_DECODER_BYTES, MAX_THUMBNAIL_PIXELS};

use super::{EngineError, Parts};

/// Quality of JPEG thumbnails, of 100.
const QUALITY: u8 = 80;
/// Greatest width or height that is requested.
const MAX_SIDE: u32 = 2_048;

/// Reduces an image to a size.
pub(crate) fn thumbnail(image: &Bytes, size: (u32, u32), crop: bool) -> Result<(Answer, Parts), EngineError> {
    let (width, height) = (size.0.clamp(1, MAX_SIDE), size.1.clamp(1, MAX_SIDE));
    let (image, orientation) = decode(image)?;
    // A rotated image is reduced before it is rotated: it is smaller then.
    let is_turned = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if is_turned { (height, width) } else { (width, height) };
    let mut reduced = reduce(&image, width, height, crop);
    drop(image);
    reduced.apply_orientation(orientation);
    let (format, bytes) = encode(reduced).map_err(|_| malformed())?;
    Ok((Answer::Reduced { format }, [bytes.into(), Bytes::new(), Bytes::new()]))
}

fn malformed() -> EngineError {
    NotRendered::Malformed.into()
}

fn refused(error: ImageError) -> EngineError {
    match error {
        ImageError::Limits(_) => EngineError::ImageTooLarge,
        _ => malformed(),
    }
}

fn decode(bytes: &Bytes) -> Result<(DynamicImage, Orientation), EngineError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_THUMBNAIL_DECODER_BYTES);
    let mut reader = ImageReader::new(Cursor::new(bytes.as_ref()))
        .with_guessed_format()
        .map_err(|_| malformed())?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width).saturating_mul(u64::from(height));
    if pixels > MAX_THUMBNAIL_PIXELS || decoder.total_bytes() > MAX_THUMBNAIL_DECODER_BYTES {
        return Err(EngineError::ImageTooLarge);
    }
    if pixels == 0 {
        return Err(malformed());
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    Ok((image, orientation))
}

fn reduce(image: &DynamicImage, width: u32, height: u32, crop: bool) -> DynamicImage {
    let (own_width, own_height) = (image.width(), image.height());
    if crop {
        if own_width > width && own_height > height {
            // Averages first: a filter over millions of pixels takes seconds.
            return image.thumbnail_to_fill(width, height);
        }
        let (width, height) = (width.min(own_width), height.min(own_height));
        let (left, top) = ((own_width - width) / 2, (own_height - height) / 2);
        return image.crop_imm(left, top, width, height);
    }
    if own_width <= width && own_height <= height {
        return image.clone();
    }
    image.thumbnail(width, height)
}

/// Cuts the middle of an image to the proportions of a size, and reduces it.
trait Fill {
    fn thumbnail_to_fill(&self, width: u32, height: u32) -> DynamicImage;
}

impl Fill for DynamicImage {
    fn thumbnail_to_fill(&self, width: u32, height: u32) -> DynamicImage {
        let (own_width, own_height) = (u64::from(self.width()), u64::from(self.height()));
        let (wanted_width, wanted_height) = (u64::from(width), u64::from(height));
        let side = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).max(1);
        // Sides have 32 bits and the requested ones 11, so the products fit.
        let (cut_width, cut_height) = if own_width * wanted_height > own_height * wanted_width {
            (side(own_height * wanted_width / wanted_height), self.height())
        } else {
            (self.width(), side(own_width * wanted_height / wanted_width))
        };
        let (left, top) = ((self.width() - cut_width) / 2, (self.height() - cut_height) / 2);
        let cut = self.crop_imm(left, top, cut_width, cut_height);
        if cut_width > 2 * width {
            cut.thumbnail_exact(width, height)
        } else {
            cut.resize_exact(width, height, FilterType::Triangle)
        }
    }
}

fn encode(image: DynamicImage) -> Result<(ImageFormat, Vec<u8>), ImageError> {
    let mut bytes = Vec::new();
    if image.color().has_alpha() {
        image.to_rgba8().write_with_encoder(PngEncoder::new(&mut bytes))?;
        return Ok((ImageFormat::Png, bytes));
    }
    image
        .to_rgb8()
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok((ImageFormat::Jpeg, bytes))
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn encoded(image: impl Into<DynamicImage>, format: image::ImageFormat) -> Bytes {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner().into()
    }

    fn made(image: &Bytes, size: (u32, u32), crop: bool) -> (ImageFormat, DynamicImage) {
        let (answer, [bytes, ..]) = thumbnail(image, size, crop).unwrap();
        let Answer::Reduced { format } = answer else {
            panic!("{answer:?}")
        };
        (format, image::load_from_memory(&bytes).unwrap())
    }

    #[test]
    fn images_are_reduced_and_never_enlarged() {
        let wide = encoded(
            RgbImage::from_pixel(400, 100, Rgb([200, 0, 0])),
            image::ImageFormat::Png,
        );
        for (size, crop, expected) in [
            ((320, 240), false, (320, 80)),
            ((800, 600), false, (400, 100)),
            ((96, 96), true, (96, 96)),
            ((150, 150), true, (150, 100)),
            ((1, 1), false, (1, 1)),
        ] {
            let (format, image) = made(&wide, size, crop);
            assert_eq!((image.width(), image.height()), expected, "{size:?}");
            assert_eq!(format, ImageFormat::Jpeg);
        }
        let thin = encoded(RgbImage::new(1, 4_000), image::ImageFormat::Png);
        assert_eq!(made(&thin, (320, 240), false).1.height(), 240);
        assert_eq!(made(&thin, (32, 32), true).1.width(), 1);
    }

    #[test]
    fn all_formats_are_decoded_and_transparency_is_kept() {
        let image = RgbaImage::from_pixel(40, 40, Rgba([0, 200, 0, 128]));
        for format in [
            image::ImageFormat::Png,
            image::ImageFormat::Gif,
            image::ImageFormat::WebP,
        ] {
            assert_eq!(
                made(&encoded(image.clone(), format), (32, 32), true).0,
                ImageFormat::Png,
                "{format:?}"
            );
        }
        let photo = encoded(RgbImage::from_pixel(64, 64, Rgb([9, 9, 9])), image::ImageFormat::Jpeg);
        assert_eq!(made(&photo, (32, 32), true).0, ImageFormat::Jpeg);
    }

    /// T77: a small file that announces an enormous image.
    #[test]
    fn an_image_with_too_many_pixels_is_not_decoded() {
        let mut large = encoded(GrayImage::new(10, 10), image::ImageFormat::Png).to_vec();
        // Width and height in the header, and its checksum.
        large.splice(16..24, [0, 0, 0xC3, 0x50, 0, 0, 0xC3, 0x50]);
        let checksum = {
            let mut crc = 0xFFFF_FFFF_u32;
            for byte in large.get(12..29).unwrap() {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 {
                        (crc >> 1) ^ 0xEDB8_8320
                    } else {
                        crc >> 1
                    };
                }
            }
            !crc
        };
        large.splice(29..33, checksum.to_be_bytes());
        let result = thumbnail(&large.into(), (32, 32), true);
        assert!(matches!(result, Err(EngineError::ImageTooLarge)), "{result:?}");
    }

    #[test]
    fn what_is_no_image_of_these_formats_is_an_error() {
        let png = encoded(GrayImage::new(10, 10), image::ImageFormat::Png);
        let svg = Bytes::from_static(b"<svg xmlns='http://www.w3.org/2000/svg'/>");
        let tiff = Bytes::from_static(b"II*\0\x08\0\0\0\0\0\0\0\0\0");
        for wrong in [Bytes::new(), svg, tiff, png.slice(..40), Bytes::from_static(b"GIF89a")] {
            let result = thumbnail(&wrong, (32, 32), false);
            assert!(
                matches!(result, Err(EngineError::NotRendered(NotRendered::Malformed))),
                "{wrong:?} {result:?}"
            );
        }
    }
}
